//! temporary
use weir::{config, service::Service, shutdown::Shutdown, telemetry::{logs, Metrics}};
fn main() -> std::process::ExitCode {
    let (config, _) = match config::load(std::env::vars_os()) { Ok(c) => c, Err(p) => { eprintln!("{p}"); return 78.into(); } };
    logs::init(&config.telemetry, logs::Output::Stdout, &Metrics::default()).unwrap();
    let rt = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let code = rt.block_on(async { let s = Shutdown::default(); let sig = s.clone().on_signals();
        tokio::select! { r = Service::new(config).run(s.clone()) => match r { Ok(weir::dispatch::End::Drained) => 0, Ok(_) => 75, Err(e) => { eprintln!("ended: {e}"); 70 } }, _ = async { sig.await.ok(); std::future::pending::<()>().await } => 70 } });
    rt.shutdown_background();
    (code as u8).into()
}
