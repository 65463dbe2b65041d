"""Takes the place of the GPU package sgl_kernel where SGLang runs on a CPU in plain torch.

SGLang imports it whatever it runs on. Names can be imported; calling one is an error that names it.
"""

import importlib.abc
import importlib.machinery
import sys
import types

__version__ = "0.4.10"


class Missing:
    def __init__(self, name):
        self.name = name

    def __getattr__(self, attribute):
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return Missing(self.name + "." + attribute)

    def __call__(self, *_, **__):
        raise NotImplementedError(self.name + " needs a GPU")


def missing(module):
    def get(name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Missing(module + "." + name)

    return get


class Submodules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.startswith(__name__ + "."):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = missing(spec.name)
        return module

    def exec_module(self, module):
        pass


__getattr__ = missing(__name__)
sys.meta_path.append(Submodules())
