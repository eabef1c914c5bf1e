//! The queues give the same guarantees in process and on a broker, and on a broker whatever happens to it.

mod faults;

use edp_queue::topology::ProductionName;
use edp_queue::{Link, LinkState, Message, Publisher, Queue, QueueDepth, QueueError, QueueOptions, Tls, TlsError};
use edp_tests::broker::Broker;
use edp_tests::certificates::Certificates;
use edp_tests::proxy::{Proxy, ProxyMode};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

type Check = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// The deadline for anything that should happen soon, even on a busy machine.
const SOON: Duration = Duration::from_secs(60);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it happens soon")
}

fn message(number: usize) -> Message {
    let mut message = Message::new(number.to_string().into_bytes(), "text/plain", &format!("id-{number}"));
    message.headers.insert("traceparent".into(), format!("00-{number:032x}-{number:016x}-01"));
    message
}

fn number(message: &Message) -> usize {
    String::from_utf8_lossy(&message.body).parse().expect("a number")
}

/// Returns the options of a program's link, with deadlines for tests.
fn options(url: &str, production: &str) -> QueueOptions {
    let production: ProductionName = production.parse().expect("a name");
    let mut options = QueueOptions::new(url.parse().expect("an address"), production);
    options.patience = SOON;
    options.confirm = Duration::from_secs(10);
    options
}

async fn is(link: &Link, wanted: impl Fn(&LinkState) -> bool) {
    soon(link.state().wait_for(|state| wanted(state))).await.expect("a link that lives");
}

/// Waits until a queue holds this number of messages, not counting delivered ones. A broker may still count a consumer
/// that was stopped while it has unsettled deliveries.
async fn settles(link: &Link, queue: Queue, messages: u64) {
    let ask = async {
        while link.depth(queue).await.expect("its depth").messages != messages {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(SOON, ask).await.is_err() {
        panic!("{queue}: {:?} instead of {messages} messages", link.depth(queue).await);
    }
}

/// Checks the guarantees of every link.
async fn promises(link: &Link) -> Check {
    soon(link.declare()).await?;
    soon(link.declare()).await?;
    soon(link.await_declared(SOON)).await?;
    let publisher = link.publisher(Queue::Recipes, 4);

    // Published messages arrive unchanged and in order.
    for n in 0..10 {
        soon(publisher.publish(message(n))).await?;
    }
    settles(link, Queue::Recipes, 10).await;
    let mut consumer = soon(link.consumer(Queue::Recipes, 3)).await?;
    let mut taken = Vec::new();
    for n in 0..3 {
        let delivery = soon(consumer.next()).await?.expect("a delivery");
        assert_eq!((&delivery.message, delivery.redelivered), (&message(n), false));
        taken.push(delivery);
    }

    // The prefetch limit is respected, and a call that is dropped loses nothing.
    assert!(tokio::time::timeout(Duration::from_millis(200), consumer.next()).await.is_err());
    taken.remove(1).ack();
    let delivery = soon(consumer.next()).await?.expect("a delivery");
    assert_eq!(number(&delivery.message), 3);
    delivery.ack();

    // After a stop, the messages that were taken can be acknowledged, the others go back, and dropped deliveries come
    // again.
    soon(consumer.stop()).await;
    assert!(soon(consumer.next()).await?.is_none());
    taken.remove(1).ack();
    drop(taken);
    drop(consumer);
    settles(link, Queue::Recipes, 7).await;
    let mut consumer = soon(link.consumer(Queue::Recipes, 100)).await?;
    let mut left = BTreeMap::new();
    for _ in 0..7 {
        let delivery = soon(consumer.next()).await?.expect("a delivery");
        left.insert(number(&delivery.message), delivery.redelivered);
        delivery.ack();
    }
    assert_eq!(left.keys().copied().collect::<Vec<_>>(), [0, 4, 5, 6, 7, 8, 9]);
    assert!(left[&0] && !left[&9], "{left:?}");

    // Dropping a consumer stops it.
    for n in 0..5 {
        soon(publisher.publish(message(n))).await?;
    }
    let held = soon(consumer.next()).await?.expect("a delivery");
    drop(consumer);
    settles(link, Queue::Recipes, 4).await;
    drop(held);
    settles(link, Queue::Recipes, 5).await;

    // Several consumers share the messages, and what one leaves is delivered to the others.
    let results = link.publisher(Queue::Results, 10);
    let mut first = soon(link.consumer(Queue::Results, 2)).await?;
    soon(results.publish(message(1))).await?;
    let held = soon(first.next()).await?.expect("a delivery");
    let mut second = soon(link.consumer(Queue::Results, 2)).await?;
    for n in 2..6 {
        soon(results.publish(message(n))).await?;
    }
    soon(first.stop()).await;
    drop(held);
    let mut handed = BTreeSet::new();
    for _ in 1..6 {
        let delivery = soon(second.next()).await?.expect("a delivery");
        handed.insert(number(&delivery.message));
        delivery.ack();
    }
    assert_eq!(handed, BTreeSet::from([1, 2, 3, 4, 5]));
    settles(link, Queue::Results, 0).await;

    // Messages that are never acknowledged end in the dead queue.
    soon(second.stop()).await;
    soon(results.publish(message(7))).await?;
    let mut count = 0;
    while soon(link.depth(Queue::Dead)).await?.messages == 0 {
        let mut consumer = soon(link.consumer(Queue::Results, 1)).await?;
        let delivery = tokio::time::timeout(Duration::from_millis(500), consumer.next()).await;
        count += usize::from(delivery.is_ok());
        assert!(count < 60, "it is delivered again and again");
    }
    assert!(count > 40, "{count} deliveries");
    let mut dead = soon(link.consumer(Queue::Dead, 1)).await?;
    let delivery = soon(dead.next()).await?.expect("a delivery");
    assert_eq!(number(&delivery.message), 7);
    delivery.ack();

    // A message that is too large is refused, and so is one on a closed link.
    let large = Message::new(vec![0; edp_protocol::wire::MAX_BODY + 1], "", "");
    assert!(soon(publisher.publish(large)).await.is_err());
    let held = soon(dead.next());
    tokio::join!(async { assert!(held.await.expect("an end in order").is_none()) }, link.close());
    assert_eq!(soon(link.depth(Queue::Recipes)).await, Err(QueueError::Closed));
    let error = soon(publisher.publish(message(0))).await.expect_err("the link is closed").to_string();
    assert!(error.contains("closed"), "{error}");
    Ok(())
}

#[tokio::test]
async fn in_process() -> Check {
    promises(&Link::embedded()?).await
}

#[tokio::test]
async fn in_process_from_several_threads_at_once() -> Check {
    let link = Link::embedded()?;
    flow(&link, &link, 5000, 100, 20, |_| {}).await?;
    Ok(())
}

/// Publishes messages and consumes them until each was seen; a disturbance happens after a third of them. Returns the
/// number of messages that came more than once.
async fn flow(
    from: &Link,
    to: &Link,
    messages: usize,
    window: usize,
    prefetch: u16,
    happens: impl FnOnce(usize) + Send + 'static,
) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
    let publisher = from.publisher(Queue::Recipes, window);
    let publishing = tokio::spawn(publish(publisher, messages));
    let mut consumer = soon(to.consumer(Queue::Recipes, prefetch)).await?;
    let mut seen = BTreeMap::new();
    let mut happens = Some(happens);
    let mut happening = None;
    while seen.len() < messages {
        let delivery = soon(consumer.next()).await?.expect("a delivery");
        *seen.entry(number(&delivery.message)).or_insert(0) += 1;
        delivery.ack();
        if seen.len() > messages / 3
            && let Some(happens) = happens.take()
        {
            let now = seen.len();
            happening = Some(tokio::task::spawn_blocking(move || happens(now)));
        }
    }
    soon(publishing).await?;
    if let Some(happening) = happening {
        soon(happening).await?;
    }
    // Late messages: those that were published twice, or whose acknowledgement was lost.
    while let Ok(next) = tokio::time::timeout(Duration::from_secs(1), consumer.next()).await {
        let delivery = next?.expect("a delivery");
        *seen.entry(number(&delivery.message)).or_insert(0) += 1;
        delivery.ack();
    }
    soon(consumer.stop()).await;
    Ok(seen.values().map(|times| times - 1).sum())
}

async fn publish(publisher: Publisher, messages: usize) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..messages {
        let publisher = publisher.clone();
        tasks.spawn(async move { publisher.publish(message(n)).await.expect("it is confirmed") });
        while tasks.len() > 1000 {
            soon(tasks.join_next()).await.expect("a task").expect("it is confirmed");
        }
    }
    soon(tasks.join_all()).await;
}

/// Defines tests: each has a broker of its own, which its scenario may disturb.
macro_rules! on_a_broker {
    ($($name:ident: $scenario:path,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> Check {
            $scenario(&Arc::new(Broker::start())).await
        }
    )*};
}

mod on_a_broker {
    use super::*;

    on_a_broker! {
        the_promises_of_a_link_hold: promises_on_a_broker,
        queues_are_declared_by_the_coordinator: declaring,
        a_second_coordinator_stands_by: standing_by,
        refusals_end_a_link: refusals,
        each_user_may_do_its_part_only: permissions,
        what_was_acknowledged_before_the_end_is_gone: closing,
        connections_live_while_the_caller_computes: faults::heartbeats,
        a_broker_that_stays_silent_is_noticed: faults::black_hole,
        nothing_is_lost_with_connections_that_are_cut: faults::cut,
        a_coordinator_waits_for_the_end_of_its_own_connection: faults::own_place,
        publishers_wait_for_the_end_of_a_memory_alarm: faults::alarm,
        a_limit_of_connections_is_no_refusal: faults::limited,
        policies_that_take_messages_away_are_survived: faults::policies,
        queues_that_are_not_served_are_made_anew: faults::dead_queues,
        queues_that_die_while_they_are_consumed_are_made_anew: faults::dead_while_consumed,
        deleted_queues_are_made_anew: faults::deleted,
        messages_without_a_queue_are_published_when_it_is_there: faults::unroutable,
        nothing_is_lost_with_a_broker_that_is_killed: faults::killed,
        nothing_is_lost_with_a_broker_that_is_stopped: faults::stopped,
    }
}

async fn promises_on_a_broker(broker: &Broker) -> Check {
    promises(&Link::amqp(options(&broker.url("guest", "guest"), "promises"))?).await
}

async fn declaring(broker: &Broker) -> Check {
    let url = &broker.url("guest", "guest");
    let (coordinator, worker) = (Link::amqp(options(url, "declaring"))?, Link::amqp(options(url, "declaring"))?);
    let error = soon(worker.await_declared(Duration::from_secs(2))).await.expect_err("nobody has declared them");
    assert!(matches!(&error, QueueError::Absent { queue, .. } if queue == "edp.declaring.recipes"), "{error}");
    assert!(matches!(soon(worker.depth(Queue::Results)).await, Err(QueueError::Absent { .. })));
    let away = Link::amqp(options("amqp://127.0.0.1:1/", "declaring"))?;
    let error = soon(away.await_declared(Duration::from_millis(300))).await.expect_err("nobody listens there");
    assert!(matches!(error, QueueError::Unreachable { .. }), "{error}");
    let waiting = tokio::spawn(async move { worker.await_declared(SOON).await.map(|()| worker) });
    soon(coordinator.declare()).await?;
    let worker = soon(waiting).await??;
    assert_eq!(soon(worker.depth(Queue::Recipes)).await?, QueueDepth::default());

    broker.foreign("edp.foreign.recipes");
    let error = soon(Link::amqp(options(url, "foreign"))?.declare()).await.expect_err("the queue is another");
    assert!(matches!(&error, QueueError::Different { why, .. } if why.contains("edp.foreign.recipes")), "{error}");
    Ok(())
}

/// There is one coordinator at a time; the next takes over when the first has gone, in an orderly way or not.
async fn standing_by(broker: &Broker) -> Check {
    let proxy = Proxy::start(broker.socket());
    let link = |address: String| Link::amqp(options(&address, "standby"));
    let first = link(broker.url("guest", "guest"))?;
    soon(first.declare()).await?;
    let second = link(format!("amqp://{}/", proxy.address()))?;
    let waiting = {
        let second = second.clone();
        tokio::spawn(async move { second.declare().await })
    };
    let by = |state: &LinkState| matches!(state, LinkState::Down { why, .. } if why.starts_with("standing by"));
    is(&second, by).await;
    // A worker is not kept out.
    soon(link(broker.url("guest", "guest"))?.await_declared(SOON)).await?;
    soon(first.close()).await;
    soon(waiting).await??;

    let third = link(broker.url("guest", "guest"))?;
    let waiting = {
        let third = third.clone();
        tokio::spawn(async move { third.declare().await })
    };
    is(&third, by).await;
    assert!(!waiting.is_finished());
    proxy.set(ProxyMode::Refuse);
    proxy.cut();
    soon(waiting).await??;
    Ok(())
}

async fn refusals(broker: &Broker) -> Check {
    let link = Link::amqp(options(&broker.url("guest", "wr0ng-s3cret"), "refusals"))?;
    let error = soon(link.declare()).await.expect_err("the password is wrong");
    assert!(matches!(error, QueueError::Refused { .. }), "{error}");
    let publisher = link.publisher(Queue::Recipes, 1);
    let also = soon(publisher.publish(message(1))).await.expect_err("the password is wrong").to_string();
    assert_eq!(error.to_string(), also);
    let state = link.state();
    assert!(matches!(&*state.borrow(), LinkState::Failed(_)));
    for text in [also, format!("{error:?} {link:?}"), format!("{:?}", options(&broker.url("a", "wr0ng-s3cret"), "b"))] {
        assert!(!text.contains("s3cret"), "{text}");
    }

    let nowhere = Link::amqp(options(&format!("{}nowhere", broker.url("guest", "guest")), "refusals"))?;
    let error = soon(nowhere.declare()).await.expect_err("there is no such virtual host");
    assert!(matches!(error, QueueError::Refused { .. }), "{error}");

    let mut away = options("amqp://127.0.0.1:1/", "refusals");
    away.patience = Duration::from_secs(1);
    let link = Link::amqp(away)?;
    let mut consumer = soon(link.consumer(Queue::Recipes, 1)).await?;
    let error = soon(consumer.next()).await.expect_err("nobody listens there");
    assert!(matches!(error, QueueError::Unreachable { .. }), "{error}");
    assert_eq!(soon(link.declare()).await, Err(error));
    Ok(())
}

async fn permissions(broker: &Broker) -> Check {
    let (coordinator, worker) = Broker::patterns(&"least.1".parse()?);
    broker.user("coordinator", "one", coordinator.each_ref().map(String::as_str));
    broker.user("worker", "two", worker.each_ref().map(String::as_str));
    let link = |user: &str, password: &str| Link::amqp(options(&broker.url(user, password), "least.1"));
    let (coordinator, worker) = (link("coordinator", "one")?, link("worker", "two")?);
    soon(coordinator.declare()).await?;
    soon(worker.await_declared(SOON)).await?;
    assert_eq!(soon(worker.depth(Queue::Recipes)).await?, QueueDepth::default());

    // Each user can do its part.
    soon(coordinator.publisher(Queue::Recipes, 1).publish(message(1))).await?;
    let mut recipes = soon(worker.consumer(Queue::Recipes, 1)).await?;
    soon(recipes.next()).await?.expect("a recipe").ack();
    soon(worker.publisher(Queue::Results, 1).publish(message(2))).await?;
    let mut results = soon(coordinator.consumer(Queue::Results, 1)).await?;
    soon(results.next()).await?.expect("a result").ack();

    // A worker can do no more than that.
    let refused = |error: &dyn std::error::Error| assert!(error.to_string().contains("ACCESS_REFUSED"), "{error}");
    refused(&soon(link("worker", "two")?.declare()).await.expect_err("a worker may not declare"));
    let publisher = link("worker", "two")?.publisher(Queue::Recipes, 1);
    refused(&soon(publisher.publish(message(3))).await.expect_err("a worker may not publish recipes"));
    let spy = link("worker", "two")?;
    let mut results = soon(spy.consumer(Queue::Results, 1)).await?;
    refused(&soon(results.next()).await.expect_err("a worker may not read results"));
    // No user has access to another production.
    let other = Link::amqp(options(&broker.url("coordinator", "one"), "leastX1"))?;
    refused(&soon(other.declare()).await.expect_err("another production"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_names_and_protocols_are_checked_on_a_broker() -> Check {
    let certificates = Certificates::make();
    let broker = Broker::with(&certificates.broker());
    let path = |name: &str| certificates.path(name);
    let (ca, certificate, key) = (path("authority.pem"), path("client.pem"), path("client.key"));
    let url = format!("amqps://guest:guest@localhost:{}/", broker.tls_port());
    let link = |tls: Tls| {
        let mut options = options(&url, "encryption");
        options.tls = tls;
        Link::amqp(options)
    };
    let link_up = link(Tls::read(Some(&ca), Some(&certificate), Some(&key))?)?;
    soon(link_up.declare()).await?;
    soon(link_up.publisher(Queue::Recipes, 1).publish(message(1))).await?;

    // Connections without our certificate, and with the authorities of the system or another.
    let strange = Certificates::make();
    for (tls, why) in [
        (Tls::read(Some(&ca), None, None)?, ""),
        (Tls::read(Some(&strange.path("authority.pem")), Some(&certificate), Some(&key))?, "queue.ca"),
    ] {
        let error = soon(link(tls)?.declare()).await.expect_err("one does not trust the other");
        assert!(matches!(error, QueueError::Refused { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    // The name must be that of the certificate.
    let mut wrong = options(&url.replace("localhost", "127.0.0.1"), "encryption");
    wrong.tls = Tls::read(Some(&ca), Some(&certificate), Some(&key))?;
    let error = soon(Link::amqp(wrong)?.declare()).await.expect_err("another name");
    assert!(matches!(error, QueueError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("another host name"), "{error}");

    // Each protocol is tried at the port of the other.
    let plain = broker.url("guest", "guest");
    let ports = [
        (url.replace("amqps://", "amqp://"), "write amqps://"),
        (plain.replace("amqp://", "amqps://").replace("127.0.0.1", "localhost"), "write amqp://"),
    ];
    for (url, advice) in ports {
        let mut crossed = options(&url, "encryption");
        crossed.tls = Tls::read(Some(&ca), Some(&certificate), Some(&key))?;
        let error = soon(Link::amqp(crossed)?.declare()).await.expect_err("the other port");
        assert!(error.to_string().contains(advice), "{error}");
    }

    assert!(matches!(Tls::read(None, Some(&certificate), None), Err(TlsError::Half)));
    assert!(matches!(Tls::read(Some(&key), None, None), Err(TlsError::Content { .. })));
    assert!(matches!(Tls::read(Some(&path("none")), None, None), Err(TlsError::Read { .. })));
    Ok(())
}

async fn closing(broker: &Broker) -> Check {
    let url = &broker.url("guest", "guest");
    let link = Link::amqp(options(url, "closing"))?;
    soon(link.declare()).await?;
    soon(publish(link.publisher(Queue::Recipes, 100), 100)).await;
    let mut consumer = soon(link.consumer(Queue::Recipes, 60)).await?;
    // A quorum queue may drop what comes after its 32nd unfinished command when the channel ends.
    for _ in 0..20 {
        soon(consumer.next()).await?.expect("a delivery").ack();
    }
    soon(link.close()).await;
    let link = Link::amqp(options(url, "closing"))?;
    settles(&link, Queue::Recipes, 80).await;
    Ok(())
}
