//! Listing of many prefixes at once, yet in the order of keys.

use super::bare;
use super::call::Call;
use super::link::SharedClient;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use edp_store::{Object, S3Error};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Number of prefixes that are listed at once, of those that come next.
const AT_ONCE: usize = 16;

/// Number of pages (of at most 1000 entries) of one prefix that may wait to be visited.
const PAGES: usize = 2;

/// Entries that are still to be visited, in the order of keys.
enum PendingPages {
    Object(Object),
    /// A prefix whose listing has not begun.
    Prefix(String),
    /// A prefix whose pages come from a task.
    Listing(mpsc::Receiver<Result<ListObjectsV2Output, S3Error>>),
}

impl SharedClient {
    /// Visits all objects whose keys begin with `root`, in the order of their keys; their paths are the parts that
    /// follow it. Memory is bounded whatever the number of objects: on each level a few prefixes are listed ahead, and
    /// a task waits while some of its pages are not visited yet.
    pub(super) async fn list(
        self: &Arc<SharedClient>,
        bucket: &str,
        root: &str,
        visit: &mut dyn FnMut(Object),
    ) -> Result<(), S3Error> {
        let mut tasks = JoinSet::new(); // all end when this is dropped
        let mut ahead = VecDeque::from([PendingPages::Prefix(root.to_owned())]);
        let mut moved = true;
        loop {
            if std::mem::take(&mut moved) {
                // listings at the front are begun, whatever is under way behind them
                let mut open = 0;
                for next in &mut ahead {
                    if let PendingPages::Prefix(prefix) = next {
                        let (pages, listing) = mpsc::channel(PAGES);
                        tasks.spawn(self.clone().pages(bucket.to_owned(), std::mem::take(prefix), pages));
                        *next = PendingPages::Listing(listing);
                    }
                    open += usize::from(matches!(next, PendingPages::Listing(_)));
                    if open == AT_ONCE {
                        break;
                    }
                }
                while tasks.try_join_next().is_some() {} // tasks that have ended are no longer kept
            }
            match ahead.pop_front() {
                None => return Ok(()),
                Some(PendingPages::Object(entry)) => visit(entry),
                Some(prefix @ PendingPages::Prefix(_)) => {
                    ahead.push_front(prefix);
                    moved = true;
                }
                Some(PendingPages::Listing(mut pages)) => {
                    if let Some(page) = pages.recv().await {
                        let found = sorted(root, page?);
                        ahead.push_front(PendingPages::Listing(pages));
                        for next in found.into_iter().rev() {
                            ahead.push_front(next);
                        }
                    }
                    moved = true;
                }
            }
        }
    }

    /// Lists one prefix, page by page, as far as the receiver asks.
    async fn pages(
        self: Arc<SharedClient>,
        bucket: String,
        prefix: String,
        to: mpsc::Sender<Result<ListObjectsV2Output, S3Error>>,
    ) {
        let mut token: Option<String> = None;
        loop {
            let call = Call { action: "list it", permission: "s3:ListBucket", bucket: &bucket, key: &prefix, bytes: 0 };
            let page = self.call(call, |client| {
                let request = client
                    .list_objects_v2()
                    .bucket(&bucket)
                    .prefix(&prefix)
                    .delimiter("/")
                    .set_continuation_token(token.clone())
                    .set_request_payer(self.payer());
                async move { Ok(request.send().await?) }
            });
            let page = page.await;
            let next = page.as_ref().ok().filter(|page| page.is_truncated == Some(true));
            let next = next.and_then(|page| page.next_continuation_token.clone());
            let goes_round = next.is_some() && next == token;
            let page = if goes_round {
                Err(call.failed("the listing does not go on: the same token came twice"))
            } else {
                page
            };
            if to.send(page).await.is_err() || next.is_none() || goes_round {
                return;
            }
            token = next;
        }
    }
}

/// Returns objects and prefixes of a page in the order of keys. All keys below a prefix are together, at the place of
/// the prefix.
fn sorted(root: &str, page: ListObjectsV2Output) -> Vec<PendingPages> {
    let mut found = Vec::new();
    for object in page.contents.unwrap_or_default() {
        let Some(key) = object.key.filter(|key| !key.ends_with('/')) else { continue }; // a folder of the AWS console
        let path = key.strip_prefix(root).unwrap_or(&key).to_owned();
        let etag = bare(object.e_tag.as_deref().unwrap_or_default()).to_owned();
        let size = object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
        found.push((key, PendingPages::Object(Object { path, size, etag })));
    }
    for prefix in page.common_prefixes.unwrap_or_default().into_iter().filter_map(|found| found.prefix) {
        found.push((prefix.clone(), PendingPages::Prefix(prefix)));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found.into_iter().map(|(_, next)| next).collect()
}
