//! Events that a coordinator writes into its ledger, and their consequences for the recipes.
//!
//! Every message may arrive twice, late, or out of order. A failure counts only if it is about the attempt that is
//! under way, so it counts once; a granule that exists at its destination always counts.

use super::body::Packer;
use super::order::{inputs, rank};
use super::recipe_row::{DONE, NO_WORKER, RecipeRow, kind};
use super::retries::{Policy, Verdict};
use super::state::{LedgerEvent, MadeGranule, RecipeState, Settled};
use super::{Ledger, LedgerError, detail, millis, schema::PACE, sqlite};
use crate::records::GranuleRecord;
use edp_protocol::message::FailureKind;
use edp_protocol::recipe::Recipe;
use edp_protocol::wire::{self, Done, Failed, Outcome};
use rusqlite::{OptionalExtension as _, Transaction, TransactionBehavior, params};
use std::collections::{HashMap, HashSet};

/// Largest number of an attempt. Outcomes may contain any number, and attempts are counted on from there.
const MAX_ATTEMPT: u32 = 1 << 30;

/// Largest numbers of causes of a failure and of warnings of a granule that are kept, and of characters of each.
const MAX_CAUSES: usize = 32;
const MAX_CAUSE: usize = 4096;

/// Shortens the texts of a worker to what is kept.
fn kept(texts: &[String]) -> Vec<String> {
    texts.iter().take(MAX_CAUSES).map(|text| text.chars().take(MAX_CAUSE).collect()).collect()
}

/// Number of leases that are ended in one transaction.
const EXPIRED: usize = 1000;

/// Condition: no worker has reported about the attempt that is under way.
const UNBEGUN: &str = "NOT EXISTS
    (SELECT 1 FROM attempt WHERE attempt.number = recipe.number AND attempt.attempt = recipe.attempt)";

/// Condition: another recipe that reads the same inputs is being made, so that this one may be waiting behind it in its
/// task group.
const WITH_MATE: &str = "(inputs != 0 AND EXISTS
    (SELECT 1 FROM recipe AS mate JOIN attempt ON attempt.number = mate.number AND attempt.attempt = mate.attempt
     WHERE mate.inputs = recipe.inputs AND mate.state = 1 AND mate.number != recipe.number))";

/// Resets a recipe: nothing earlier counts any more, not even if it is reported again.
const RESET: &str = "UPDATE recipe SET state = 0, due = 0, failures = 0, alone = 0, base = attempt, reason = NULL";

impl Ledger {
    /// Runs one transaction. It locks for writing from the start: a transaction that begins by reading and writes later
    /// is refused if another process has written meanwhile.
    fn transact<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, &Policy) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        let (path, policy) = (self.path.clone(), self.policy);
        let run = || {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&transaction, &policy)?;
            transaction.commit()?;
            Ok(result)
        };
        run().map_err(|source| sqlite(&path, source))
    }

    /// Makes `recipes` the present list. Known recipes keep their state; new ones wait to be sent, or are held. Failed
    /// ones stay failed until [`Ledger::retry`]. All or nothing is written, and nothing of what is there already.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written.
    pub fn list(&mut self, recipes: &[Recipe]) -> Result<(), LedgerError> {
        self.enter(recipes, true)
    }

    /// Adds `recipes` to the present list, as [`Ledger::list`] does.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written.
    pub fn add(&mut self, recipes: &[Recipe]) -> Result<(), LedgerError> {
        self.enter(recipes, false)
    }

    /// Enters recipes into the present list. If these are the `whole` list, all others leave it.
    fn enter(&mut self, recipes: &[Recipe], whole: bool) -> Result<(), LedgerError> {
        self.transact(|transaction, _| {
            let mut present = HashSet::new();
            let mut datasets = HashMap::new();
            let mut packer = Packer::new();
            for recipe in recipes {
                let Some(plan) = &recipe.recipe else { continue };
                let dataset = dataset(transaction, &mut datasets, recipe)?;
                let json = serde_json::to_vec(recipe)
                    .map_err(|e| rusqlite::Error::ToSqlConversionFailure(format!("{}: {e}", recipe.granule).into()))?;
                let (state, reason) = if plan.is_held() {
                    let missing = plan.missing.join(", ");
                    (RecipeState::Held, Some(format!("no input for {missing}; plan with --allow-partial to make it without")))
                } else {
                    (RecipeState::Waiting, None)
                };
                let known = transaction
                    .prepare_cached("SELECT number, granule, listed FROM recipe WHERE id = ?1")?
                    .query_row([&plan.id], |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?)))
                    .optional()?;
                let number: i64 = match known {
                    None => {
                        let insert = "INSERT INTO recipe (id, granule, dataset, listed, state, due, reason, rank, inputs)
                                      VALUES (?1, ?2, ?3, 1, ?4, 0, ?5, ?6, ?7)";
                        let row = params![plan.id, recipe.granule, dataset, state as i64, reason, rank(recipe), inputs(recipe)];
                        transaction.prepare_cached(insert)?.execute(row)?;
                        transaction.last_insert_rowid()
                    }
                    Some((number, granule, listed)) => {
                        if granule != recipe.granule {
                            // The roots are not part of the id, so the list may move a known recipe to another
                            // destination.
                            let update = format!("{RESET} WHERE number = ?1");
                            transaction.prepare_cached(&update)?.execute([number])?;
                            let update =
                                "UPDATE recipe SET granule = ?2, dataset = ?3, state = ?4, reason = ?5 WHERE number = ?1";
                            let row = params![number, recipe.granule, dataset, state as i64, reason];
                            transaction.prepare_cached(update)?.execute(row)?;
                        }
                        if !listed {
                            let update = "UPDATE recipe SET listed = 1 WHERE number = ?1";
                            transaction.prepare_cached(update)?.execute([number])?;
                        }
                        number
                    }
                };
                present.insert(number);
                let (body, sample) = packer.pack(transaction, dataset, json)?;
                let insert = "INSERT INTO body (number, recipe, sample) VALUES (?1, ?2, ?3)
                              ON CONFLICT DO UPDATE SET recipe = excluded.recipe, sample = excluded.sample
                              WHERE recipe IS NOT excluded.recipe OR sample IS NOT excluded.sample";
                transaction.prepare_cached(insert)?.execute(params![number, body, sample])?;
            }
            if !whole {
                return Ok(());
            }
            let gone: Vec<i64> = {
                let mut statement = transaction.prepare("SELECT number FROM recipe WHERE listed = 1")?;
                let numbers = statement.query_map([], |row| row.get(0))?;
                numbers.filter(|n| n.as_ref().map_or(true, |n| !present.contains(n))).collect::<Result<_, _>>()?
            };
            let mut unlist = transaction.prepare("UPDATE recipe SET listed = 0 WHERE number = ?1")?;
            gone.iter().try_for_each(|number| unlist.execute([number]).map(drop))
        })
    }

    /// Writes events, all or nothing, and returns the recipes that were settled by them.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written; then nothing is.
    pub fn write(&mut self, events: &[LedgerEvent], now: i64) -> Result<Vec<Settled>, LedgerError> {
        self.transact(|transaction, policy| {
            let mut writer = LedgerWriter { transaction, policy, now, workers: HashMap::new(), made: (0, 0) };
            let mut settled = Vec::new();
            for event in events {
                settled.extend(writer.write(event)?);
            }
            writer.finish()?;
            Ok(settled)
        })
    }

    /// Ends the leases that have expired: their recipes are sent again, or fail if they lost too many workers. With
    /// `queued`, recipes that no worker has begun get another lease, since they wait in a queue that exists.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written.
    pub fn expire(&mut self, now: i64, queued: bool) -> Result<Vec<Settled>, LedgerError> {
        self.transact(|transaction, policy| {
            if queued {
                let lease = now.saturating_add(millis(policy.lease));
                let prolong =
                    format!("UPDATE recipe SET due = ?1 WHERE listed = 1 AND state = 1 AND due <= ?2 AND {UNBEGUN}");
                transaction.prepare_cached(&prolong)?.execute(params![lease, now])?;
            }
            let over: Vec<i64> = {
                let query = "SELECT number FROM recipe WHERE listed = 1 AND state = 1 AND due <= ?1 LIMIT ?2";
                let mut statement = transaction.prepare_cached(query)?;
                let rows = statement.query_map(params![now, EXPIRED as i64], |row| row.get(0))?;
                rows.collect::<Result<_, _>>()?
            };
            let mut settled = Vec::new();
            for number in over {
                let Some(recipe) = RecipeRow::find(transaction, "number = ?1", &number)? else { continue };
                recipe.lose(transaction, recipe.attempt, NO_WORKER, now)?;
                let standing = recipe.standing(transaction, None, now)?;
                settled.extend(recipe.follow(transaction, policy.after_loss(&standing), None, now)?);
            }
            Ok(settled)
        })
    }

    /// Sends task messages again that were sent before a time, in ms since 1970, and that no worker has begun, since
    /// they are not in the queue any more. Returns their number. A recipe that is to run alone may be with a worker
    /// that has not begun it yet because other granules are under way there; such recipes are left out, unless
    /// `solitary` is true.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written.
    pub(crate) fn resend(&mut self, sent_before: i64, solitary: bool, now: i64) -> Result<usize, LedgerError> {
        let condition = if solitary { "1" } else { "alone = 0" };
        self.resend_where(condition, sent_before, now)
    }

    /// Does the same where recipes travel in groups. One whose task group is being made may be with a worker that has not
    /// begun it yet, and is left out, too.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written.
    pub(crate) fn resend_groups(&mut self, sent_before: i64, now: i64) -> Result<usize, LedgerError> {
        self.resend_where(&format!("alone = 0 AND NOT {WITH_MATE}"), sent_before, now)
    }

    fn resend_where(&mut self, condition: &str, sent_before: i64, now: i64) -> Result<usize, LedgerError> {
        self.transact(|transaction, policy| {
            // A lease begins when the task message is sent.
            let due = sent_before.saturating_add(millis(policy.lease));
            let update = format!(
                "UPDATE recipe SET state = 0, due = ?1
                WHERE listed = 1 AND state = 1 AND due <= ?2 AND {condition} AND {UNBEGUN}"
            );
            transaction.prepare_cached(&update)?.execute(params![now, due])
        })
    }

    /// Ends all leases at once: the queue has ended with its process, and so have the workers.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written.
    pub fn recall(&mut self, now: i64) -> Result<(), LedgerError> {
        let end = "UPDATE recipe SET due = ?1 WHERE listed = 1 AND state = 1";
        self.connection.execute(end, [now]).map_err(|e| self.fail(e))?;
        while self.under_way()? > 0 {
            self.expire(now, false)?;
        }
        Ok(())
    }

    /// Records the orderly end of a worker of this process: it returns every attempt whose end it has not reported.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written.
    pub fn dismiss(&mut self, worker: &str, now: i64) -> Result<(), LedgerError> {
        let end = "UPDATE attempt SET ended = ?1, kind = ?2
                   WHERE ended IS NULL AND worker = (SELECT number FROM worker WHERE name = ?3)
                   AND number IN (SELECT number FROM recipe WHERE listed IN (0, 1) AND state = 1)";
        let row = params![now, kind(FailureKind::Returned), worker];
        self.connection.execute(end, row).map(drop).map_err(|e| self.fail(e))
    }

    /// Resets all recipes in a state. Returns their number.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written.
    pub fn retry(&mut self, state: RecipeState) -> Result<usize, LedgerError> {
        let reset = format!("{RESET} WHERE listed = 1 AND state = ?1");
        self.connection.execute(&reset, [state as i64]).map_err(|e| self.fail(e))
    }

    /// Resets recipes, by their ids, whose granules are missing, or for which that was asked.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written; then nothing is.
    pub fn reopen(&mut self, ids: &[String]) -> Result<(), LedgerError> {
        // Another granule will be made, which has another digest if the date of production has changed.
        self.reset(ids, &format!("{RESET}, sha256 = '' WHERE id = ?1"))
    }

    /// Resets recipes, by their ids, whose granules are damaged. Their recorded digests are kept.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written; then nothing is.
    pub(crate) fn make_again(&mut self, ids: &[String]) -> Result<(), LedgerError> {
        self.reset(ids, &format!("{RESET} WHERE id = ?1"))
    }

    /// Runs an update for each id.
    fn reset(&mut self, ids: &[String], update: &str) -> Result<(), LedgerError> {
        self.transact(|transaction, _| {
            let mut statement = transaction.prepare_cached(update)?;
            ids.iter().try_for_each(|id| statement.execute([id]).map(drop))
        })
    }

    /// Records size and digest that granules had when they were made or read, where these are not known yet.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written; then nothing is.
    pub fn record<'r>(&mut self, records: impl Iterator<Item = &'r GranuleRecord>) -> Result<(), LedgerError> {
        self.transact(|transaction, _| {
            let update = "UPDATE recipe SET sha256 = ?1, bytes = ?2 WHERE id = ?3 AND sha256 = ''";
            for record in records {
                let bytes = i64::try_from(record.bytes).unwrap_or(i64::MAX);
                let row = params![record.sha256.as_str(), bytes, record.id];
                transaction.prepare_cached(update)?.execute(row)?;
            }
            Ok(())
        })
    }

    /// Marks granules as done, by recipe id and size in bytes, that were found at their destination.
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be written; then nothing is.
    pub fn adopt(&mut self, found: &[(String, u64)]) -> Result<(), LedgerError> {
        self.transact(|transaction, _| {
            for (id, bytes) in found {
                let Some(recipe) = RecipeRow::find(transaction, "id = ?1", id)? else { continue };
                recipe.done(transaction, &MadeGranule { already: true, bytes: *bytes, ..MadeGranule::default() })?;
            }
            Ok(())
        })
    }
}

/// Returns the number of a recipe's dataset on its grid. There are few of these.
fn dataset(transaction: &Transaction<'_>, known: &mut HashMap<String, i64>, recipe: &Recipe) -> rusqlite::Result<i64> {
    let name = match recipe.name() {
        Ok(name) => format!("{}_{} {}", name.dataset, name.period, name.grid),
        Err(_) => recipe.dynamic_metadata.name.clone(),
    };
    if let Some(number) = known.get(&name) {
        return Ok(*number);
    }
    transaction.execute("INSERT INTO dataset (name) VALUES (?1) ON CONFLICT DO NOTHING", [&name])?;
    let number = transaction.query_row("SELECT number FROM dataset WHERE name = ?1", [&name], |row| row.get(0))?;
    known.insert(name, number);
    Ok(number)
}

/// Writes one batch of events.
struct LedgerWriter<'a> {
    transaction: &'a Transaction<'a>,
    policy: &'a Policy,
    now: i64,
    /// Workers that have reported in this batch: number, count of granules done, and count of other outcomes.
    workers: HashMap<&'a str, (i64, i64, i64)>,
    /// Numbers of granules and bytes that were made.
    made: (i64, i64),
}

impl<'a> LedgerWriter<'a> {
    fn lease(&self) -> i64 {
        self.now.saturating_add(millis(self.policy.lease))
    }

    fn write(&mut self, event: &'a LedgerEvent) -> rusqlite::Result<Option<Settled>> {
        match event {
            LedgerEvent::Sent { number, attempt } => {
                // An outcome may arrive before the confirmation that the task message was sent.
                let update = "UPDATE recipe SET attempt = ?1, due = ?2, state = 1
                              WHERE number = ?3 AND state IN (0, 1) AND attempt < ?1";
                self.transaction.prepare_cached(update)?.execute(params![attempt, self.lease(), number])?;
                Ok(None)
            }
            LedgerEvent::Reported(outcome) => self.outcome(outcome),
            LedgerEvent::Dropped { id, attempt, reason } => self.dropped(id, *attempt, reason),
        }
    }

    /// Records that the broker has dropped a task message. If a worker has begun it nevertheless, it goes on.
    fn dropped(&self, id: &str, attempt: u32, reason: &str) -> rusqlite::Result<Option<Settled>> {
        let update = format!(
            "UPDATE recipe SET state = 0, due = ?1, reason = ?2
            WHERE id = ?3 AND state = 1 AND attempt = ?4 AND {UNBEGUN}"
        );
        let due = self.now.saturating_add(millis(self.policy.after_drop()));
        self.transaction.prepare_cached(&update)?.execute(params![due, reason, id, attempt]).map(|_| None)
    }

    fn outcome(&mut self, outcome: &'a Outcome) -> rusqlite::Result<Option<Settled>> {
        let Outcome { recipe_id, attempt, worker, build, event } = outcome;
        let Some(recipe) = RecipeRow::find(self.transaction, "id = ?1", recipe_id)? else { return Ok(None) };
        if *attempt > MAX_ATTEMPT {
            return Ok(None);
        }
        let worker = self.worker(worker, build)?;
        match event {
            wire::TaskEvent::Started => self.started(&recipe, *attempt, worker),
            wire::TaskEvent::Done(done) => self.done(&recipe, *attempt, worker, done),
            wire::TaskEvent::Failed(failed) => self.failed(&recipe, *attempt, worker, failed),
        }
    }

    /// Returns the number of a worker, and records that it has reported.
    fn worker(&mut self, name: &'a str, build: &str) -> rusqlite::Result<i64> {
        if let Some((number, ..)) = self.workers.get(name) {
            return Ok(*number);
        }
        let insert = "INSERT INTO worker (name, build, first, last) VALUES (?1, ?2, ?3, ?3)
                      ON CONFLICT DO UPDATE SET last = max(last, excluded.last) RETURNING number";
        let row = params![name, build, self.now];
        let number = self.transaction.prepare_cached(insert)?.query_row(row, |row| row.get(0))?;
        self.workers.insert(name, (number, 0, 0));
        Ok(number)
    }

    fn started(&self, recipe: &RecipeRow, attempt: u32, worker: i64) -> rusqlite::Result<Option<Settled>> {
        let insert = "INSERT INTO attempt (number, attempt, worker, started) VALUES (?1, ?2, ?3, ?4)
                      ON CONFLICT DO NOTHING";
        let row = params![recipe.number, attempt, worker, self.now];
        let is_new = self.transaction.prepare_cached(insert)?.execute(row)? > 0;
        if is_new && !recipe.state.is_settled() && attempt >= recipe.attempt && attempt > recipe.base {
            let update = "UPDATE recipe SET state = 1, attempt = ?1, due = ?2 WHERE number = ?3";
            self.transaction.prepare_cached(update)?.execute(params![attempt, self.lease(), recipe.number])?;
        }
        Ok(None)
    }

    /// Records the end of an attempt. Returns true if it was not known yet.
    fn ended(
        &mut self,
        recipe: &RecipeRow,
        attempt: u32,
        worker: i64,
        kind: i64,
        reason: Option<&str>,
    ) -> rusqlite::Result<bool> {
        let insert = "INSERT INTO attempt (number, attempt, worker, started, ended, kind, reason)
                      VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6)
                      ON CONFLICT DO UPDATE SET ended = excluded.ended, kind = excluded.kind, reason = excluded.reason
                      WHERE ended IS NULL";
        let row = params![recipe.number, attempt, worker, self.now, kind, reason];
        let is_new = self.transaction.prepare_cached(insert)?.execute(row)? > 0;
        if is_new && let Some((_, done, failed)) = self.workers.values_mut().find(|(number, ..)| *number == worker) {
            *(if kind == DONE { done } else { failed }) += 1;
        }
        Ok(is_new)
    }

    fn done(
        &mut self,
        recipe: &RecipeRow,
        attempt: u32,
        worker: i64,
        done: &Done,
    ) -> rusqlite::Result<Option<Settled>> {
        self.ended(recipe, attempt, worker, DONE, None)?;
        let made = MadeGranule {
            already: done.already,
            older: done.older,
            bytes: done.size,
            sha256: done.sha256.clone(),
            // The first stage is the total by the wall clock.
            seconds: done.stages.first().map_or(0.0, |stage| stage.seconds),
            warnings: kept(&done.warnings),
        };
        let settled = recipe.done(self.transaction, &made)?;
        if settled.is_some() {
            // A worker that finds a granule knows less about it than the one that made it.
            let or = if done.already { "IGNORE" } else { "REPLACE" };
            let insert = format!("INSERT OR {or} INTO detail VALUES (?1, ?2)");
            self.transaction.prepare_cached(&insert)?.execute(params![recipe.number, detail::pack(done)])?;
            self.made.0 += 1;
            self.made.1 += i64::try_from(done.size).unwrap_or_default();
        }
        Ok(settled)
    }

    fn failed(
        &mut self,
        recipe: &RecipeRow,
        attempt: u32,
        worker: i64,
        failed: &Failed,
    ) -> rusqlite::Result<Option<Settled>> {
        let causes = kept(&failed.reason);
        if failed.kind == FailureKind::Lost {
            // Reported by the worker that received it, about the worker that had it before, which may be the same one.
            let insert =
                "INSERT INTO attempt (number, attempt, worker, started, ended, kind) VALUES (?1, ?2, ?3, ?4, ?4, ?5)
                          ON CONFLICT DO NOTHING";
            let row = params![recipe.number, attempt, worker, self.now, kind(failed.kind)];
            if self.transaction.prepare_cached(insert)?.execute(row)? == 0 {
                let query = "SELECT 1 FROM attempt WHERE number = ?1 AND attempt = ?2 AND worker = ?3 AND kind = ?4";
                let row = params![recipe.number, attempt, worker, kind(failed.kind)];
                if self.transaction.prepare_cached(query)?.exists(row)? {
                    return Ok(None); // reported before
                }
            }
        } else {
            let json = serde_json::to_string(&causes).unwrap_or_default();
            let is_new = self.ended(recipe, attempt, worker, kind(failed.kind), Some(&json))?;
            if is_new && failed.kind == FailureKind::Transient && attempt < recipe.attempt {
                return self.failed_late(recipe, attempt, worker, &causes);
            }
        }
        let under_way =
            attempt > recipe.attempt || (attempt == recipe.attempt && recipe.state == RecipeState::UnderWay);
        // An older attempt says nothing about the present one, unless that would end in the same way.
        let is_new = attempt > recipe.base && (under_way || failed.kind == FailureKind::Permanent);
        if recipe.state.is_settled() || !is_new {
            return Ok(None);
        }
        if attempt > recipe.attempt {
            let update = "UPDATE recipe SET attempt = ?1 WHERE number = ?2";
            self.transaction.prepare_cached(update)?.execute(params![attempt, recipe.number])?;
        }
        if failed.kind == FailureKind::Lost {
            recipe.lose(self.transaction, attempt, worker, self.now)?;
        }
        let standing = recipe.standing(self.transaction, Some(failed.kind), self.now)?;
        let reason = causes.join(": ");
        let verdict = self.policy.after_failure(failed.kind, &reason, &standing);
        recipe.follow(self.transaction, verdict, Some(&reason), self.now)
    }

    /// Records the failure of an attempt whose lease had ended, so that another attempt is under way. It counts: a
    /// recipe of which every attempt outlives its lease would be sent for ever. The other attempt goes on, if the
    /// policy permits another one.
    fn failed_late(
        &self,
        recipe: &RecipeRow,
        attempt: u32,
        worker: i64,
        causes: &[String],
    ) -> rusqlite::Result<Option<Settled>> {
        // A task message that reached two workers is one attempt.
        let query = "SELECT 1 FROM attempt WHERE number = ?1 AND attempt = ?2 AND worker != ?3 AND kind = ?4";
        let row = params![recipe.number, attempt, worker, kind(FailureKind::Transient)];
        if recipe.state.is_settled() || attempt <= recipe.base || self.transaction.prepare_cached(query)?.exists(row)? {
            return Ok(None);
        }
        let standing = recipe.standing(self.transaction, None, self.now)?;
        let verdict = self.policy.after_failure(FailureKind::Transient, &causes.join(": "), &standing);
        if let Verdict::Again { .. } = verdict {
            let count = "UPDATE recipe SET failures = failures + 1 WHERE number = ?1";
            return self.transaction.prepare_cached(count)?.execute([recipe.number]).map(|_| None);
        }
        recipe.follow(self.transaction, verdict, None, self.now)
    }

    /// Writes what is written once for a batch.
    fn finish(self) -> rusqlite::Result<()> {
        let update = "UPDATE worker SET done = done + ?2, failed = failed + ?3 WHERE number = ?1";
        for (number, done, failed) in self.workers.into_values().filter(|(_, done, failed)| done + failed > 0) {
            self.transaction.prepare_cached(update)?.execute(params![number, done, failed])?;
        }
        if self.made.0 > 0 {
            let insert = "INSERT INTO pace VALUES (?1, ?2, ?3)
                          ON CONFLICT DO UPDATE SET done = done + excluded.done, bytes = bytes + excluded.bytes";
            let row = params![self.now - self.now.rem_euclid(PACE), self.made.0, self.made.1];
            self.transaction.prepare_cached(insert)?.execute(row)?;
        }
        Ok(())
    }
}
