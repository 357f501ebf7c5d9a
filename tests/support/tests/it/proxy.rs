//! The proxy's faults, against a plain echo server.

use std::time::{Duration, Instant};

use changeling_support::{FaultProxy, Result, Traffic};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(5);
const NOT_YET: Duration = Duration::from_millis(200);

/// Echoes, and says "bye" after the client's end of input.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.write_all(b"bye").await;
            });
        }
    });
    port
}

async fn connect(proxy: &FaultProxy) -> TcpStream {
    TcpStream::connect((proxy.host(), proxy.port()))
        .await
        .expect("the proxy listens")
}

async fn ping(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ping").await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.map(drop)
}

#[tokio::test]
async fn forwards_and_counts() -> Result<()> {
    let proxy = FaultProxy::start("127.0.0.1", echo().await).await?;
    let mut stream = connect(&proxy).await;
    ping(&mut stream).await.expect("an echo");
    assert_eq!(
        proxy.traffic(),
        Traffic {
            connections: 1,
            to_server: 4,
            to_client: 4
        }
    );
    Ok(())
}

#[tokio::test]
async fn cuts_what_is_there_and_accepts_what_comes() -> Result<()> {
    let proxy = FaultProxy::start("127.0.0.1", echo().await).await?;
    let mut stream = connect(&proxy).await;
    ping(&mut stream).await.expect("an echo");
    proxy.cut_all();
    let ended = timeout(SOON, stream.read(&mut [0; 4]))
        .await
        .expect("a cut is noticed");
    assert_eq!(
        ended.expect_err("a reset, not a polite end").kind(),
        std::io::ErrorKind::ConnectionReset
    );
    ping(&mut connect(&proxy).await)
        .await
        .expect("an echo on a new connection");
    Ok(())
}

#[tokio::test]
async fn stalls_then_delivers() -> Result<()> {
    let proxy = FaultProxy::start("127.0.0.1", echo().await).await?;
    let mut stream = connect(&proxy).await;
    proxy.stall();
    assert!(
        timeout(NOT_YET, ping(&mut stream)).await.is_err(),
        "nothing passes"
    );
    proxy.resume();
    let mut answer = [0; 4];
    timeout(SOON, stream.read_exact(&mut answer))
        .await
        .expect("in time")
        .expect("nothing was lost");
    Ok(())
}

#[tokio::test]
async fn refuses_until_resumed() -> Result<()> {
    let proxy = FaultProxy::start("127.0.0.1", echo().await).await?;
    let mut old = connect(&proxy).await;
    ping(&mut old).await.expect("an echo");
    proxy.refuse_new();
    assert!(
        ping(&mut connect(&proxy).await).await.is_err(),
        "new connections are refused"
    );
    ping(&mut old).await.expect("old ones go on");
    proxy.resume();
    ping(&mut connect(&proxy).await).await.expect("an echo");
    Ok(())
}

#[tokio::test]
async fn half_closes() -> Result<()> {
    let proxy = FaultProxy::start("127.0.0.1", echo().await).await?;
    let mut stream = connect(&proxy).await;
    ping(&mut stream).await.expect("an echo");
    proxy.half_close();
    let mut rest = Vec::new();
    timeout(SOON, stream.read_to_end(&mut rest))
        .await
        .expect("in time")
        .expect("answers still pass");
    assert_eq!(rest, b"bye");
    Ok(())
}

#[tokio::test]
async fn delays() -> Result<()> {
    let proxy = FaultProxy::start("127.0.0.1", echo().await).await?;
    let mut stream = connect(&proxy).await;
    proxy.delay(Duration::from_millis(50));
    let sent = Instant::now();
    ping(&mut stream).await.expect("an echo");
    assert!(sent.elapsed() >= Duration::from_millis(100), "50 ms each way");
    Ok(())
}
