"""Writes reference.wandb: what wandb itself writes of three steps, offline.

pip install wandb==0.31.0 && python make.py
"""

import glob
import os
import shutil
import tempfile

import wandb

here = os.path.dirname(os.path.abspath(__file__))
with tempfile.TemporaryDirectory() as work:
    settings = wandb.Settings(
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        console="off",
        silent=True,
        host="host",
    )
    run = wandb.init(
        mode="offline",
        dir=work,
        project="project",
        group="group",
        entity="team",
        name="name",
        config={"steps": 3, "optimizer": {"lr": 0.001}},
        settings=settings,
    )
    for step in range(1, 4):
        run.log({"reverse_kl": 0.5 / step, "ratio/mean": 1.0}, step=step)
    run.finish()
    wandb.teardown()
    (log,) = glob.glob(f"{work}/wandb/offline-run-*/run-*.wandb")
    shutil.copy(log, f"{here}/reference.wandb")
