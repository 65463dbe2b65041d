use std::{
    io::Write,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, value_parser};
use opd_serve::{Error, Key, Limits, Options, Running, ServedModel, Server, Stop};

use crate::{compute::Compute, failure::Failure, interrupt, model::ModelFlag};

/// Serve a model's scores to trainers, as SGLang and vLLM do
///
/// Answers SGLang's `/generate` and vLLM's `/v1/completions` for requests that score tokens and
/// generate at most one; `/health`, `/model_info`, `/v1/models` and `/metrics` (Prometheus) say
/// the rest. Scores are exact at any temperature, and a prompt that several samples share is
/// computed once. The address is printed to stdout once the server listens.
///
/// Ctrl-C or SIGTERM: no more requests are taken, those taken are answered, exit code 0. A second
/// one leaves at once.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    model: ModelFlag,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "N")]
    port: u16,
    /// Address to listen on; others than this machine's own need a key
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: String,
    /// Environment variable that holds the key which requests must carry (Authorization: Bearer)
    #[arg(long, value_name = "VARIABLE", conflicts_with = "api_key_file")]
    api_key_env: Option<String>,
    /// File that holds the key
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Name of the model in answers [default: its directory's]
    #[arg(long, value_name = "NAME")]
    served_model_name: Option<String>,
    /// Version of the weights in answers [default: a digest of the files]
    #[arg(long, value_name = "TEXT")]
    weight_version: Option<String>,
    /// Requests served at one time; more get 503
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = value_parser!(u32).range(1..))]
    max_queue: u32,
    /// Tokens that one forward computes
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = value_parser!(u32).range(1..))]
    max_batch_tokens: u32,
    /// Megabytes (MiB) of a request; more get 413
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = value_parser!(u32).range(1..=1024))]
    max_request_mb: u32,
    /// Megabytes (MiB) of keys and values kept of what sequences begin with, for those that begin
    /// alike later; 0 keeps none
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_kept_mb: u32,
    /// Compute every sequence alone; scores are the same
    #[arg(long)]
    no_shared_prefixes: bool,
    #[command(flatten)]
    compute: Compute,
}

/// Runs the command.
pub(crate) fn serve(args: &ServeArgs) -> anyhow::Result<()> {
    let address = address(&args.host, args.port)?;
    let options = options(args)?;
    let device = args.compute.start()?;
    interrupt::watch()?;
    let dir = args.model.path()?;
    let products = args.model.precision.products();
    let lm = args.model.frozen_weights.load(&dir, products, &device)?;
    opd_kernels::keep_freed_memory();
    let mut model = ServedModel::new(lm)?.with_products(products)?;
    // The directory of a model of the hub is named by a commit.
    let hub_name = (dir != args.model.model).then(|| args.model.model.display().to_string());
    if let Some(name) = args.served_model_name.clone().or(hub_name) {
        model = model.with_name(name);
    }
    if let Some(version) = &args.weight_version {
        model = model.with_weight_version(version);
    }
    let server = Server::new(model, options);
    let running = Running::start(&server, address).map_err(|error| match error {
        Error::Open { .. } => Failure::usage(error.to_string()),
        error => error.into(),
    })?;
    say(running.address(), args)?;
    watch(running.stop_handle(), server.clone(), args.compute.quiet)?;
    // This thread is one of the pool's: it scores.
    server.worker().run()?;
    drop(running);
    Ok(())
}

fn options(args: &ServeArgs) -> anyhow::Result<Options> {
    let key = match (&args.api_key_env, &args.api_key_file) {
        (Some(variable), _) => Some(Key::from_env(variable)),
        (None, Some(path)) => Some(Key::from_file(path)),
        (None, None) => None,
    };
    let key = key.transpose().map_err(|error| Failure::usage(error.to_string()))?;
    let defaults = Limits::default();
    let max_body_bytes = (args.max_request_mb as usize) << 20;
    let limits = Limits {
        max_queue: args.max_queue as usize,
        max_body_bytes,
        max_queued_bytes: defaults.max_queued_bytes.max(max_body_bytes),
        ..defaults
    };
    Ok(Options {
        key,
        limits,
        max_batch_tokens: args.max_batch_tokens as usize,
        share_prefixes: !args.no_shared_prefixes,
        max_kept_bytes: (args.max_kept_mb as usize) << 20,
    })
}

fn address(host: &str, port: u16) -> anyhow::Result<SocketAddr> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let found = (host, port).to_socket_addrs().ok().and_then(|mut found| found.next());
    found.ok_or_else(|| Failure::usage(format!("--host {host}: no such address on this machine")))
}

fn say(address: SocketAddr, args: &ServeArgs) -> anyhow::Result<()> {
    if !args.compute.quiet {
        eprintln!("serving {}; Ctrl-C ends it", args.model.model.display());
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "http://{address}")
        .and_then(|()| stdout.flush())
        .context("cannot write to stdout")
}

/// Stops the server at the first signal.
fn watch(stop: Stop, server: Server, quiet: bool) -> anyhow::Result<()> {
    let watch = move || {
        while !interrupt::pressed() {
            std::thread::sleep(Duration::from_millis(50));
        }
        if !quiet {
            eprintln!("stopping: {} requests wait to be scored", server.queued());
        }
        stop.stop();
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch)?;
    Ok(())
}
