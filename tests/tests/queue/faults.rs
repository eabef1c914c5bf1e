//! Faults of a broker, of the connections to it, and of its users.

use super::{Check, SOON, flow, is, message, number, options, settles, soon};
use edp_queue::{DeadLetterReason, Link, LinkState, PublishError, Queue};
use edp_tests::broker::Broker;
use edp_tests::proxy::{Proxy, ProxyMode};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The caller's only thread sleeps, and more threads than there are processors compute, for more than five heartbeats.
/// No connection is lost, and no message is delivered twice.
pub(super) async fn heartbeats(broker: &Broker) -> Check {
    let proxy = Proxy::start(broker.socket());
    let busy = Duration::from_millis(11_000);
    let url = format!("amqp://{}/", proxy.address());
    let check = move || -> Check {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut options = options(&url, "heartbeats");
            options.heartbeat = Duration::from_secs(2);
            let link = Link::amqp(options)?;
            soon(link.declare()).await?;
            let publisher = link.publisher(Queue::Recipes, 1);
            soon(publisher.publish(message(1))).await?;
            let mut consumer = soon(link.consumer(Queue::Recipes, 1)).await?;
            let delivery = soon(consumer.next()).await?.expect("a delivery");
            let cores = std::thread::available_parallelism().map_or(2, usize::from);
            std::thread::scope(|scope| {
                for _ in 0..2 * cores {
                    scope.spawn(|| {
                        let end = Instant::now() + busy;
                        while Instant::now() < end {}
                    });
                }
                std::thread::sleep(busy);
            });
            delivery.ack();
            soon(publisher.publish(message(2))).await?;
            let delivery = soon(consumer.next()).await?.expect("a delivery");
            assert_eq!((number(&delivery.message), delivery.redelivered), (2, false));
            delivery.ack();
            assert_eq!(proxy.connections(), 2);
            soon(link.close()).await;
            Ok(())
        })
    };
    tokio::task::spawn_blocking(move || std::thread::spawn(check).join()).await?.expect("no panic")
}

pub(super) async fn black_hole(broker: &Broker) -> Check {
    let proxy = Proxy::start(broker.socket());
    let mut options = options(&format!("amqp://{}/", proxy.address()), "hole");
    options.confirm = Duration::from_secs(1);
    let link = Link::amqp(options.clone())?;
    soon(link.declare()).await?;
    let publisher = link.publisher(Queue::Recipes, 10);
    soon(publisher.publish(message(0))).await?;

    // A missing answer counts as a loss, and unconfirmed messages are published again.
    proxy.set(ProxyMode::Swallow);
    let publishing = tokio::spawn(async move { publisher.publish(message(1)).await });
    is(&link, |state| matches!(state, LinkState::Down { .. })).await;
    assert!(!publishing.is_finished());
    proxy.set(ProxyMode::Pass);
    proxy.cut();
    soon(publishing).await??;
    is(&link, |state| matches!(state, LinkState::Up)).await;

    // Slowness does not count as a loss.
    proxy.set(ProxyMode::Delay(Duration::from_millis(100)));
    soon(link.publisher(Queue::Recipes, 1).publish(message(2))).await?;
    proxy.set(ProxyMode::Pass);
    settles(&link, Queue::Recipes, 3).await;

    // A consumer that is stopped in the meantime does not wait for another connection.
    let mut patient = options.clone();
    patient.patience = 10 * SOON;
    let link = Link::amqp(patient)?;
    let mut consumer = soon(link.consumer(Queue::Recipes, 1)).await?;
    drop(soon(consumer.next()).await?.expect("a delivery"));
    proxy.set(ProxyMode::Swallow);
    let stopping = tokio::spawn(async move { consumer.stop().await });
    is(&link, |state| matches!(state, LinkState::Down { .. })).await;
    proxy.set(ProxyMode::Refuse);
    proxy.cut();
    soon(stopping).await?;
    proxy.set(ProxyMode::Pass);

    // Attempts continue until the patience is over.
    options.patience = Duration::from_secs(2);
    let link = Link::amqp(options)?;
    let publisher = link.publisher(Queue::Recipes, 1);
    soon(publisher.publish(message(3))).await?;
    proxy.set(ProxyMode::Refuse);
    proxy.cut();
    let error = soon(publisher.publish(message(4))).await.expect_err("the broker is away").to_string();
    assert!(error.contains("given up after"), "{error}");
    Ok(())
}

pub(super) async fn cut(broker: &Broker) -> Check {
    let (near, far) = (Proxy::start(broker.socket()), Proxy::start(broker.socket()));
    let link = |proxy: &Proxy| Link::amqp(options(&format!("amqp://{}/", proxy.address()), "cut"));
    let (coordinator, worker) = (link(&near)?, link(&far)?);
    soon(coordinator.declare()).await?;
    soon(worker.await_declared(SOON)).await?;
    let twice = flow(&coordinator, &worker, 3000, 200, 20, move |_| {
        near.cut();
        far.cut();
        near.cut();
        // Both must live on.
        std::mem::forget((near, far));
    })
    .await?;
    assert!(twice <= 200 + 2 * 20, "{twice} came twice");
    settles(&coordinator, Queue::Recipes, 0).await;

    // The broker closes all connections at once.
    let link = Link::amqp(options(&broker.url("guest", "guest"), "cut"))?;
    let mut consumer = soon(link.consumer(Queue::Recipes, 1)).await?;
    let publisher = link.publisher(Queue::Recipes, 1);
    soon(publisher.publish(message(1))).await?;
    let old = soon(consumer.next()).await?.expect("a delivery");
    broker.disconnect();
    let again = soon(consumer.next()).await?.expect("a delivery");
    assert_eq!((number(&again.message), again.redelivered), (1, true));
    // An acknowledgement on an old connection has no effect.
    old.ack();
    soon(publisher.publish(message(2))).await?;
    again.ack();
    let next = soon(consumer.next()).await?.expect("a delivery");
    assert_eq!((number(&next.message), next.redelivered), (2, false));
    next.ack();
    settles(&link, Queue::Recipes, 0).await;
    Ok(())
}

pub(super) async fn alarm(broker: &Broker) -> Check {
    let link = Link::amqp(options(&broker.url("guest", "guest"), "alarm"))?;
    soon(link.declare()).await?;
    let publisher = link.publisher(Queue::Recipes, 2);
    for n in 0..3 {
        soon(publisher.publish(message(n))).await?;
    }
    broker.alarm(true);
    let blocked = {
        let publisher = publisher.clone();
        tokio::spawn(async move { soon(publisher.publish(message(3))).await })
    };
    is(&link, |state| matches!(state, LinkState::Blocked { .. })).await;
    // Deliveries continue.
    let mut consumer = soon(link.consumer(Queue::Recipes, 1)).await?;
    for n in 0..3 {
        let delivery = soon(consumer.next()).await?.expect("a delivery");
        assert_eq!(number(&delivery.message), n);
        delivery.ack();
    }
    assert!(!blocked.is_finished());

    // But not forever.
    let mut hasty = options(&broker.url("guest", "guest"), "alarm");
    hasty.patience = Duration::from_secs(2);
    let hasty = Link::amqp(hasty)?;
    let error = soon(hasty.publisher(Queue::Recipes, 1).publish(message(9))).await.expect_err("no room").to_string();
    assert!(error.contains("takes no messages"), "{error}");

    broker.alarm(false);
    soon(blocked).await??;
    is(&link, |state| matches!(state, LinkState::Up)).await;
    let delivery = soon(consumer.next()).await?.expect("a delivery");
    assert!([3, 9].contains(&number(&delivery.message)));
    Ok(())
}

/// A coordinator whose network was down comes back before the broker has noticed. It waits for the end of its own
/// connection, and does not mistake itself for another coordinator.
pub(super) async fn own_place(broker: &Broker) -> Check {
    let proxy = Proxy::start(broker.socket());
    let mut options = options(&format!("amqp://{}/", proxy.address()), "own");
    (options.confirm, options.heartbeat) = (Duration::from_secs(1), Duration::from_secs(4));
    let link = Link::amqp(options)?;
    soon(link.declare()).await?;
    let mut states = link.state();
    let reasons = tokio::spawn(async move {
        let mut reasons = Vec::new();
        while states.changed().await.is_ok() {
            if let LinkState::Down { why, .. } = &*states.borrow_and_update() {
                reasons.push(why.clone());
            }
        }
        reasons
    });
    proxy.set(ProxyMode::Lose);
    let depth = tokio::spawn({
        let link = link.clone();
        async move { link.depth(Queue::Recipes).await }
    });
    is(&link, |state| matches!(state, LinkState::Down { .. })).await;
    // The connection is given up by now, or will be within the time that its orderly end may take.
    let given_up = async {
        while proxy.connections() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(given_up).await;
    proxy.set(ProxyMode::Pass);
    soon(depth).await??;
    soon(link.close()).await;
    drop(link);
    let reasons = soon(reasons).await?;
    assert!(reasons.iter().any(|why| why.contains("this coordinator")), "{reasons:?}");
    assert!(!reasons.iter().any(|why| why.contains("another coordinator")), "{reasons:?}");
    Ok(())
}

/// A limit of connections does not count as a refusal: other connections will end.
pub(super) async fn limited(broker: &Broker) -> Check {
    broker.control(["set_vhost_limits", "{\"max-connections\": 0}"]);
    let link = Link::amqp(options(&broker.url("guest", "guest"), "limited"))?;
    let declaring = tokio::spawn({
        let link = link.clone();
        async move { link.declare().await }
    });
    is(&link, |state| matches!(state, LinkState::Down { why, .. } if why.contains("limit"))).await;
    assert!(!declaring.is_finished());
    broker.control(["clear_vhost_limits"]);
    soon(declaring).await??;
    Ok(())
}

/// Policies of administrators that take messages out of queues, or let none in.
pub(super) async fn policies(broker: &Broker) -> Check {
    for (production, policy) in [("short", "{\"max-length\": 1}"), ("brief", "{\"message-ttl\": 100}")] {
        let pattern = format!("^edp\\.{production}\\.recipes$");
        broker.control(["set_policy", "--apply-to", "queues", production, &pattern, policy]);
    }
    let link = Link::amqp(options(&broker.url("guest", "guest"), "brief"))?;
    soon(link.declare()).await?;
    soon(link.publisher(Queue::Recipes, 1).publish(message(1))).await?;
    let mut dead = soon(link.consumer(Queue::Dead, 1)).await?;
    let delivery = soon(dead.next()).await?.expect("a delivery");
    assert_eq!(number(&delivery.message), 1);
    assert_eq!(delivery.message.death(), Some((DeadLetterReason::Expired, "edp.brief.recipes")));
    delivery.ack();

    let link = Link::amqp(options(&broker.url("guest", "guest"), "short"))?;
    soon(link.declare()).await?;
    let publisher = link.publisher(Queue::Recipes, 1);
    // The broker accepts a few more than the limit.
    let full = async {
        let mut taken = 0;
        loop {
            match publisher.offer(message(taken)).await {
                Ok(()) => taken += 1,
                Err(error) => return (taken, error),
            }
        }
    };
    let (taken, error) = soon(full).await;
    assert!(matches!(&error, PublishError::Full { queue } if queue == "edp.short.recipes"), "{error}");
    assert!(taken > 0 && error.to_string().contains("max-length"), "{taken}: {error}");
    let insisting = tokio::spawn(async move { publisher.publish(message(taken)).await });
    let mut consumer = soon(link.consumer(Queue::Recipes, 1)).await?;
    for n in 0..=taken {
        let delivery = soon(consumer.next()).await?.expect("a delivery");
        assert_eq!(number(&delivery.message), n);
        delivery.ack();
    }
    soon(insisting).await??;
    for policy in ["short", "brief"] {
        broker.control(["clear_policy", policy]);
    }
    Ok(())
}

/// A queue that exists on the broker but is not served is made anew, whether this is noticed by consuming or by
/// publishing. Nothing else is touched: the messages in another queue stay.
pub(super) async fn dead_queues(broker: &Broker) -> Check {
    let mut options = options(&broker.url("guest", "guest"), "lifeless");
    options.confirm = Duration::from_secs(2);
    let link = Link::amqp(options)?;
    soon(link.declare()).await?;
    soon(link.publisher(Queue::Results, 1).publish(message(7))).await?;
    for (queue, renewals) in [(Queue::Recipes, 1), (Queue::Dead, 2)] {
        broker.paralyse(&format!("edp.lifeless.{queue}"));
        if queue == Queue::Recipes {
            soon(link.publisher(queue, 1).publish(message(1))).await?;
        }
        let mut consumer = soon(link.consumer(queue, 1)).await?;
        soon(link.publisher(queue, 1).publish(message(2))).await?;
        let told = async {
            loop {
                let delivery = consumer.next().await?.expect("a delivery");
                let number = number(&delivery.message);
                delivery.ack();
                if number == 2 {
                    return Ok::<_, edp_queue::QueueError>(());
                }
            }
        };
        soon(told).await?;
        assert_eq!(link.renewals(), renewals);
    }
    settles(&link, Queue::Results, 1).await;
    Ok(())
}

/// A queue that stops to serve is found out although the coordinator has nothing to publish: what workers send to it
/// arrives.
pub(super) async fn dead_while_consumed(broker: &Broker) -> Check {
    let link = || {
        let mut options = options(&broker.url("guest", "guest"), "unheard");
        options.confirm = Duration::from_secs(2);
        Link::amqp(options)
    };
    let (coordinator, worker) = (link()?, link()?);
    soon(coordinator.declare()).await?;
    soon(worker.await_declared(SOON)).await?;
    let mut results = soon(coordinator.consumer(Queue::Results, 1)).await?;
    broker.paralyse("edp.unheard.results");
    let publisher = worker.publisher(Queue::Results, 1);
    let publishing = tokio::spawn(async move { publisher.publish(message(3)).await });
    let delivery = soon(results.next()).await?.expect("a delivery");
    assert_eq!(number(&delivery.message), 3);
    delivery.ack();
    soon(publishing).await??;
    assert_eq!((coordinator.renewals(), worker.renewals()), (1, 0));
    // The same with the queue of a worker, which the coordinator declares anew without its knowledge. Another worker
    // that consumes the new queue does not hide this: neither acknowledges, so that each gets one of two messages.
    let other = link()?;
    let mut recipes = soon(worker.consumer(Queue::Recipes, 1)).await?;
    broker.paralyse("edp.unheard.recipes");
    soon(coordinator.publisher(Queue::Recipes, 1).publish(message(4))).await?;
    let mut elsewhere = soon(other.consumer(Queue::Recipes, 1)).await?;
    soon(coordinator.publisher(Queue::Recipes, 1).publish(message(5))).await?;
    let mut numbers = Vec::new();
    for consumer in [&mut elsewhere, &mut recipes] {
        numbers.push(number(&soon(consumer.next()).await?.expect("a delivery").message));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, [4, 5]);
    Ok(())
}

pub(super) async fn deleted(broker: &Broker) -> Check {
    let link = || Link::amqp(options(&broker.url("guest", "guest"), "deleted"));
    let (coordinator, worker) = (link()?, link()?);
    soon(coordinator.declare()).await?;
    soon(worker.await_declared(SOON)).await?;
    let mut recipes = soon(worker.consumer(Queue::Recipes, 1)).await?;
    let mut results = soon(coordinator.consumer(Queue::Results, 1)).await?;
    let (task_messages, reports) = (coordinator.publisher(Queue::Recipes, 1), worker.publisher(Queue::Results, 1));
    let notices = [coordinator.state(), worker.state()].map(|mut state| {
        tokio::spawn(async move { state.wait_for(|state| matches!(state, LinkState::Down { .. })).await.map(drop) })
    });
    for queue in ["edp.deleted.recipes", "edp.deleted.results"] {
        broker.delete(queue);
    }
    // Both sides notice it, and find each other again. If a queue is made anew within a millisecond of its deletion,
    // RabbitMQ 3.10 may return one that confirms messages and never delivers them; only leases help against that.
    for notice in notices {
        soon(notice).await??;
    }
    soon(task_messages.publish(message(1))).await?;
    soon(reports.publish(message(2))).await?;
    for (consumer, n) in [(&mut recipes, 1), (&mut results, 2)] {
        let delivery = soon(consumer.next()).await?.expect("a delivery");
        assert_eq!(number(&delivery.message), n);
        delivery.ack();
    }
    Ok(())
}

pub(super) async fn unroutable(broker: &Broker) -> Check {
    let url = &broker.url("guest", "guest");
    let mut hasty = options(url, "unroutable");
    hasty.patience = Duration::from_secs(1);
    let publisher = Link::amqp(hasty)?.publisher(Queue::Recipes, 1);
    let error = soon(publisher.publish(message(1))).await.expect_err("there is no such queue").to_string();
    assert!(error.contains("given up after"), "{error}");
    Ok(())
}

pub(super) async fn killed(broker: &Arc<Broker>) -> Check {
    let link = || Link::amqp(options(&broker.url("guest", "guest"), "killed"));
    let (coordinator, worker) = (link()?, link()?);
    soon(coordinator.declare()).await?;
    soon(worker.await_declared(SOON)).await?;
    let killed = broker.clone();
    let twice = flow(&coordinator, &worker, 5000, 500, 50, move |_| {
        killed.kill();
        killed.run();
    })
    .await?;
    assert!(twice <= 500 + 50, "{twice} came twice");
    settles(&coordinator, Queue::Recipes, 0).await;
    Ok(())
}

pub(super) async fn stopped(broker: &Broker) -> Check {
    let link = Link::amqp(options(&broker.url("guest", "guest"), "stopped"))?;
    soon(link.declare()).await?;
    let publisher = link.publisher(Queue::Recipes, 10);
    soon(publisher.publish(message(1))).await?;
    broker.stop();
    is(&link, |state| matches!(state, LinkState::Down { .. })).await;
    let publishing = tokio::spawn(async move { publisher.publish(message(2)).await });
    broker.run();
    soon(publishing).await??;
    let mut consumer = soon(link.consumer(Queue::Recipes, 10)).await?;
    for n in 1..3 {
        let delivery = soon(consumer.next()).await?.expect("a delivery");
        assert_eq!(number(&delivery.message), n);
        delivery.ack();
    }
    soon(link.close()).await;
    Ok(())
}
