//! Passwords stay where they are.

use std::os::unix::fs::PermissionsExt;

use anyhow::ensure;
use changeling_support::Flavor;
use rstest::rstest;

use super::run::Job;
use super::stage::scene;

const PASSWORD: &str = "Xyzzy-plugh-4711";

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn no_password_is_in_anything_that_is_said(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.fill(50).await?;
    let user = format!("secret_{}", scene.database);
    scene
        .run(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{PASSWORD}'"))
        .await?;
    scene.run(&format!("GRANT ALL ON *.* TO '{user}'@'%'")).await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int")
        .without("--user")
        .without("--password")
        .without("--verbose")
        .with("--debug")
        .with("--stack")
        .with("--initially-drop-old-table");
    let conf = job.path("conf");
    std::fs::write(&conf, format!("[client]\nuser={user}\npassword=${{SECRET}}\n"))?;
    std::fs::set_permissions(&conf, std::fs::Permissions::from_mode(0o600))?;
    let by_conf = job
        .clone()
        .flag("--conf", conf.display())
        .variable("SECRET", PASSWORD);
    let by_variable = job
        .clone()
        .flag("--user", &user)
        .variable("CHANGELING_PASSWORD", PASSWORD);
    let by_mysql = job.clone().flag("--user", &user).variable("MYSQL_PWD", PASSWORD);
    let elsewhere = by_variable.clone().without("--port").flag("--port", 1);
    let refused = job
        .clone()
        .flag("--user", "nobody")
        .variable("CHANGELING_PASSWORD", PASSWORD);
    let misspelt = by_variable.clone().flag("--alter", "ADD COLUMN b nothing");
    for (job, succeeds) in [
        (by_conf, true),
        (by_variable, true),
        (by_mysql, true),
        (elsewhere, false),
        (refused, false),
        (misspelt, false),
    ] {
        if succeeds {
            scene
                .run("ALTER TABLE t DROP COLUMN IF EXISTS b")
                .await
                .or(Ok::<(), anyhow::Error>(()))?;
            let _ = scene.run("ALTER TABLE t DROP COLUMN b").await;
        }
        let ended = job.run().await?;
        ensure!(ended.succeeded() == succeeds, "{ended}");
        ensure!(
            !ended.to_string().contains(PASSWORD),
            "the password is shown: {ended}"
        );
    }
    // While it runs, the process list of this machine does not show it either.
    let mut running = job
        .flag("--user", &user)
        .variable("CHANGELING_PASSWORD", PASSWORD)
        .flag("--throttle-query", "SELECT 1")
        .start();
    let _ = scene.run("ALTER TABLE t DROP COLUMN b").await;
    running.says("starting changeling").await?;
    let line = std::fs::read(format!("/proc/{}/cmdline", running.id()?))?;
    ensure!(!String::from_utf8_lossy(&line).contains(PASSWORD));
    running.kill().await?;
    Ok(())
}
