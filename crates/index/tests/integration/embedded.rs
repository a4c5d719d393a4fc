//! The embedded engine beyond the contract: durability, one process per folder, damage.
#![cfg(feature = "embedded")]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::*;
use guildex_index::{
    Collection, CollectionName, Difference, EmbeddedIndex, Ensured, Error, Identity, Mode, Scope, VectorIndex,
};
use guildex_types::PointId;

fn collection() -> Collection {
    Collection { name: CollectionName::new("test", &model()).unwrap(), dims: DIMS }
}

async fn opened(dir: &Path) -> EmbeddedIndex {
    let index = EmbeddedIndex::open(dir).unwrap();
    index.ensure(&collection()).await.unwrap();
    index
}

async fn stored(index: &EmbeddedIndex) -> HashSet<PointId> {
    all(index, &collection(), guild(7)).await.into_iter().map(|point| point.id).collect()
}

#[tokio::test]
async fn points_survive_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let chunk = |first| Chunk { first, ..Chunk::default() };
    let index = opened(dir.path()).await;
    upsert(&index, &collection(), &[chunk(1), chunk(2), chunk(3)]).await;
    let deleted = [(chunk(2).session(), revision(9))];
    index.delete_below(&collection().name, guild(7), &deleted).await.unwrap();
    drop(index);

    // Without `ensure`: a reader of an existing folder does not need the dimensions.
    let index = EmbeddedIndex::open(dir.path()).unwrap();
    assert_eq!(stored(&index).await, HashSet::from([chunk(1).id(), chunk(3).id()]));
    assert_eq!(index.ensure(&collection()).await.unwrap(), Ensured::Existing);
    let query = query(Mode::Hybrid, &chunk(1).dense, "hello");
    let hits = index.search(&collection().name, &Scope::guild(guild(7)), query).await.unwrap();
    assert_eq!(hits.len(), 2);
}

#[tokio::test]
async fn changes_apply_after_each_reopen() {
    // The engine numbers changes by its log and skips those below what a point has seen.
    let dir = tempfile::tempdir().unwrap();
    for number in 1..=4 {
        let index = opened(dir.path()).await;
        let chunk = Chunk { revision: number, ..Chunk::default() };
        upsert(&index, &collection(), std::slice::from_ref(&chunk)).await;
        if number == 2 {
            index.optimize(&collection().name).await.unwrap();
        }
        assert_eq!(all(&index, &collection(), guild(7)).await, [chunk.point()]);
    }
}

#[tokio::test]
async fn a_long_log_is_truncated_and_later_changes_apply() {
    let dir = tempfile::tempdir().unwrap();
    // Vectors of about 300 KiB in the log, whose files hold 8 MiB.
    let wide = Collection { dims: 1 << 16, ..collection() };
    let at = |number| Chunk { revision: number, dense: vec![0.1; wide.dims], ..Chunk::default() };
    let log = dir.path().join(wide.name.as_str()).join("wal");
    let closed = || {
        let entries = std::fs::read_dir(&log).unwrap();
        entries.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("closed-")).count()
    };
    let index = EmbeddedIndex::open(dir.path()).unwrap();
    index.ensure(&wide).await.unwrap();
    for number in 1..=64 {
        upsert(&index, &wide, &[at(number)]).await;
    }
    drop(index);
    assert!(closed() > 1, "the log did not grow");

    let index = EmbeddedIndex::open(dir.path()).unwrap();
    upsert(&index, &wide, &[at(65)]).await;
    assert_eq!(closed(), 1);
    let page = index.scroll(&wide.name, guild(7), None, 9).await.unwrap();
    let revisions: Vec<_> = page.points.iter().map(|point| point.payload.revision).collect();
    assert_eq!(revisions, [revision(65)]);
}

#[tokio::test]
async fn concurrent_writes_are_all_stored() {
    let dir = tempfile::tempdir().unwrap();
    let index = opened(dir.path()).await;
    let chunks: Vec<_> = (1..=100).map(|first| Chunk { first, ..Chunk::default() }).collect();
    let collection = collection();
    futures::future::join_all(
        chunks.iter().map(|chunk| upsert(&index, &collection, std::slice::from_ref(chunk))),
    )
    .await;
    assert_eq!(stored(&index).await, chunks.iter().map(Chunk::id).collect());
}

#[tokio::test]
async fn a_second_process_is_rejected_with_the_holders_pid() {
    let dir = tempfile::tempdir().unwrap();
    let index = opened(dir.path()).await;
    match EmbeddedIndex::open(dir.path()) {
        Err(Error::InUse { holder, .. }) => assert_eq!(holder, std::process::id().to_string()),
        other => panic!("{:?}", other.err()),
    }
    drop(index);
    EmbeddedIndex::open(dir.path()).unwrap();
}

#[tokio::test]
async fn an_incomplete_collection_is_created_again() {
    let dir = tempfile::tempdir().unwrap();
    let draft = dir.path().join(format!(".new-{}", collection().name)).join("segments");
    std::fs::create_dir_all(&draft).unwrap();
    std::fs::write(draft.join("half"), "written").unwrap();
    let index = EmbeddedIndex::open(dir.path()).unwrap();
    assert_eq!(index.ensure(&collection()).await.unwrap(), Ensured::Created);
    upsert(&index, &collection(), &[Chunk::default()]).await;
}

/// A folder after an interrupted change of a whole collection.
struct Interruption<'a> {
    what: &'a str,
    /// Entries under names that no collection can have.
    beside: &'a [(&'a str, &'a Path)],
    target: Option<&'a Path>,
    /// The chunk expected after opening.
    left: Option<i64>,
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn names(dir: &Path) -> HashSet<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A folder with a collection that contains the chunk.
async fn folder_with(chunk: &Chunk<'_>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let index = opened(dir.path()).await;
    upsert(&index, &collection(), std::slice::from_ref(chunk)).await;
    dir
}

#[tokio::test]
async fn a_crash_at_any_step_keeps_the_old_or_the_new_collection() {
    let chunk = |first| Chunk { first, ..Chunk::default() };
    let (old, new) = (folder_with(&chunk(1)).await, folder_with(&chunk(2)).await);
    let name = collection().name;
    let (old, new) = (&*old.path().join(name.as_str()), &*new.path().join(name.as_str()));
    let half = tempfile::tempdir().unwrap();
    std::fs::write(half.path().join("half"), "written").unwrap();
    let half = half.path();

    let interruption = |what, beside, target, left| Interruption { what, beside, target, left };
    for Interruption { what, beside, target, left } in [
        interruption("a snapshot was copied in part", &[(".next-", half)], Some(old), Some(1)),
        interruption("a snapshot was copied", &[(".next-", new)], Some(old), Some(1)),
        interruption("the old one was moved aside", &[(".next-", new), (".old-", old)], None, Some(1)),
        interruption("the new one was moved into its place", &[(".old-", old)], Some(new), Some(2)),
        interruption("the old one was removed in part", &[(".old-", half)], Some(new), Some(2)),
        interruption("it was dropped", &[(".gone-", old)], None, None),
        interruption("it was dropped and removed in part", &[(".gone-", half)], None, None),
        interruption(
            "it was dropped and created again in part",
            &[(".gone-", half), (".new-", half)],
            None,
            None,
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for (prefix, like) in beside {
            copy(like, &dir.path().join(format!("{prefix}{name}")));
        }
        if let Some(like) = target {
            copy(like, &dir.path().join(name.as_str()));
        }
        let index = EmbeddedIndex::open(dir.path()).unwrap();
        let expected_names: HashSet<_> =
            left.map(|_| name.to_string()).into_iter().chain(["lock".to_owned()]).collect();
        assert_eq!(names(dir.path()), expected_names, "{what}");
        let ensured = index.ensure(&collection()).await.unwrap();
        assert_eq!(ensured == Ensured::Existing, left.is_some(), "{what}");
        let expected = left.map(|first| chunk(first).id()).into_iter().collect();
        assert_eq!(stored(&index).await, expected, "{what}");
        upsert(&index, &collection(), &[chunk(3)]).await;
    }
}

#[tokio::test]
async fn restoring_and_dropping_leave_no_files() {
    let dir = folder_with(&Chunk::default()).await;
    let index = opened(dir.path()).await;
    let name = &collection().name;
    let (good, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    index.snapshot(name, good.path()).await.unwrap();
    index.restore(&collection(), empty.path()).await.unwrap_err();
    index.restore(&collection(), good.path()).await.unwrap();
    assert_eq!(names(dir.path()), HashSet::from([name.to_string(), "lock".to_owned()]));
    index.drop_collection(name).await.unwrap();
    assert_eq!(names(dir.path()), HashSet::from(["lock".to_owned()]));
}

#[tokio::test]
async fn a_restored_collection_has_no_identity() {
    let dir = folder_with(&Chunk::default()).await;
    let index = opened(dir.path()).await;
    let name = &collection().name;
    let identity = Identity { database: uuid::Uuid::new_v4(), index: uuid::Uuid::new_v4() };
    index.set_identity(name, identity).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    index.snapshot(name, folder.path()).await.unwrap();
    index.restore(&collection(), folder.path()).await.unwrap();
    assert_eq!(index.identity(name).await.unwrap(), None);

    index.set_identity(name, identity).await.unwrap();
    drop(index);
    let index = EmbeddedIndex::open(dir.path()).unwrap();
    assert_eq!(index.identity(name).await.unwrap(), Some(identity));
}

#[tokio::test]
async fn a_snapshot_with_any_file_changed_is_rejected() {
    let dir = folder_with(&Chunk::default()).await;
    let index = opened(dir.path()).await;
    let whole = tempfile::tempdir().unwrap();
    index.snapshot(&collection().name, whole.path()).await.unwrap();
    let again = index.snapshot(&collection().name, whole.path()).await;
    assert!(
        matches!(&again, Err(Error::Io { .. })),
        "a snapshot was written into a folder that is not empty"
    );

    let rejected = async |damage: &str, path: &Path| {
        let rejected = index.restore(&collection(), whole.path()).await;
        assert!(matches!(&rejected, Err(Error::NotASnapshot { .. })), "{damage} {path:?}: {rejected:?}");
    };
    // Some files of each kind, and the manifest.
    let some = files(whole.path()).into_iter().step_by(17).chain([whole.path().join("snapshot.json")]);
    for path in some {
        let aside = dir.path().join("aside");
        std::fs::rename(&path, &aside).unwrap();
        rejected("missing", &path).await;
        let mut bytes = std::fs::read(&aside).unwrap();
        if let Some(byte) = bytes.last_mut() {
            *byte ^= 1;
            std::fs::write(&path, bytes).unwrap();
            rejected("changed", &path).await;
        }
        std::fs::rename(&aside, &path).unwrap();
    }
    let more = whole.path().join("segments").join("more");
    std::fs::write(&more, "than there was").unwrap();
    rejected("more", &more).await;
    std::fs::remove_file(&more).unwrap();
    assert_eq!(stored(&index).await, HashSet::from([Chunk::default().id()]));
    index.restore(&collection(), whole.path()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_contains_no_partial_write() {
    let dir = tempfile::tempdir().unwrap();
    let index = opened(dir.path()).await;
    // Each write gives both points one revision.
    let pair = |number| [1, 2].map(|first| Chunk { first, revision: number, ..Chunk::default() });
    let done = AtomicBool::new(false);
    let write = async {
        let mut number = 0;
        while !done.load(Ordering::Relaxed) {
            number += 1;
            upsert(&index, &collection(), &pair(number)).await;
        }
    };
    let take = async {
        let mut folders = vec![];
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            index.snapshot(&collection().name, folder.path()).await.unwrap();
            folders.push(folder);
        }
        done.store(true, Ordering::Relaxed);
        folders
    };
    let ((), folders) = tokio::join!(write, take);
    for folder in folders {
        index.restore(&collection(), folder.path()).await.unwrap();
        let points = all(&index, &collection(), guild(7)).await;
        let revisions: HashSet<_> = points.iter().map(|point| point.payload.revision).collect();
        assert!(revisions.len() <= 1, "the snapshot contains half of a write: {revisions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_during_a_restore_see_the_old_or_the_new_collection() {
    let dir = folder_with(&Chunk { first: 1, ..Chunk::default() }).await;
    let index = opened(dir.path()).await;
    let (name, chunk) = (&collection().name, |first| Chunk { first, ..Chunk::default() });
    let folder = tempfile::tempdir().unwrap();
    index.snapshot(name, folder.path()).await.unwrap();
    let one = HashSet::from([chunk(1).id()]);
    let two = HashSet::from([chunk(1).id(), chunk(2).id()]);

    let done = AtomicBool::new(false);
    let read = async {
        let mut reads = 0;
        while !done.load(Ordering::Relaxed) || reads == 0 {
            let query = query(Mode::Hybrid, &DEFAULT_VECTOR, "hello");
            let hits = index.search(name, &Scope::guild(guild(7)), query).await.unwrap();
            let found: HashSet<_> = ids(&hits).into_iter().collect();
            assert!(found == one || found == two, "{found:?}");
            reads += 1;
        }
    };
    let restore = async {
        for _ in 0..5 {
            upsert(&index, &collection(), &[chunk(2)]).await;
            assert_eq!(stored(&index).await, two);
            index.restore(&collection(), folder.path()).await.unwrap();
            assert_eq!(stored(&index).await, one);
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(read, read_again(&index, &done), restore);
}

/// Counts points until `done` is set: the collection exists all the time.
async fn read_again(index: &EmbeddedIndex, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        let count = index.count(&collection().name, guild(7)).await.unwrap();
        assert!((1..=2).contains(&count), "{count}");
    }
}

#[tokio::test]
async fn a_damaged_collection_is_replaced_by_a_snapshot() {
    let dir = folder_with(&Chunk::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let index = opened(dir.path()).await;
    index.snapshot(&collection().name, folder.path()).await.unwrap();
    drop(index);
    std::fs::remove_dir_all(dir.path().join(collection().name.as_str()).join("segments")).unwrap();

    let index = EmbeddedIndex::open(dir.path()).unwrap();
    let rejected = index.ensure(&collection()).await;
    assert!(matches!(&rejected, Err(Error::Damaged { .. })), "{rejected:?}");
    index.restore(&collection(), folder.path()).await.unwrap();
    assert_eq!(stored(&index).await, HashSet::from([Chunk::default().id()]));
}

#[tokio::test]
async fn differences_of_a_foreign_collection_are_listed() {
    use qdrant_edge::{Distance, EdgeConfig, EdgeShard, EdgeSparseVectorParams, EdgeVectorParams};
    let made = |config: EdgeConfig| {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(collection().name.as_str());
        std::fs::create_dir(&folder).unwrap();
        drop(EdgeShard::new(&folder, config).unwrap());
        dir
    };
    let differences = async |dir: &Path| {
        let index = EmbeddedIndex::open(dir).unwrap();
        let ensured = index.ensure(&collection()).await;
        (index.differences(&collection()).await.unwrap(), ensured.is_ok())
    };
    let fatal = |found: &[Difference]| -> Vec<String> {
        found.iter().filter(|difference| difference.fatal).map(|difference| difference.what.clone()).collect()
    };

    let dense = EdgeVectorParams::builder(DIMS + 1, Distance::Dot).build();
    let sparse = EdgeSparseVectorParams::builder().build();
    let dir = made(EdgeConfig::builder().vector("dense", dense).sparse_vector("bm25", sparse).build());
    let (found, fits) = differences(dir.path()).await;
    assert!(!fits);
    let expected = [
        "the number of dimensions",
        "the comparison of dense vectors",
        "the weight of words",
        "the payload index guild_id",
    ];
    assert_eq!(fatal(&found), expected);
    assert_eq!(found.len(), expected.len() + 6, "six slow filters: {found:#?}");

    let dir = made(EdgeConfig::builder().build());
    let (found, fits) = differences(dir.path()).await;
    assert!(!fits);
    let expected = ["the dense vectors", "the vectors of words", "the payload index guild_id"];
    assert_eq!(fatal(&found), expected);
}

#[tokio::test]
async fn a_collection_of_an_older_release_gets_current_settings_and_keeps_its_points() {
    use qdrant_edge::{EdgeConfig, EdgeOptimizersConfig, EdgeShard};
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(collection().name.as_str());
    let index = opened(dir.path()).await;
    let chunks: Vec<_> = (1..=100).map(|first| Chunk { first, ..Chunk::default() }).collect();
    upsert(&index, &collection(), &chunks).await;
    drop(index);
    let todays = EdgeConfig::load(&folder).unwrap().unwrap();
    let mut older = todays.clone();
    older.hnsw_config.full_scan_threshold = 10_000;
    older.optimizers = EdgeOptimizersConfig { indexing_threshold: Some(200_000), ..Default::default() };
    older.vectors.values_mut().for_each(|dense| dense.on_disk = None);
    older.sparse_vectors.values_mut().for_each(|words| words.on_disk = None);
    older.save(&folder).unwrap();
    drop(EdgeShard::load(&folder, None).unwrap());

    let index = opened(dir.path()).await;
    index.optimize(&collection().name).await.unwrap();
    assert_eq!(stored(&index).await, chunks.iter().map(Chunk::id).collect());
    drop(index);
    assert_eq!(EdgeConfig::load(&folder).unwrap().unwrap(), todays);
}

#[tokio::test]
async fn ties_longer_than_a_page_are_broken_by_id() {
    let dir = tempfile::tempdir().unwrap();
    let index = opened(dir.path()).await;
    // More equals than any ranking gives, the lowest ids last.
    let mut chunks: Vec<_> =
        (1..=2_500).map(|first| Chunk { first, text: "hello", ..Chunk::default() }).collect();
    chunks.sort_by_key(|chunk| std::cmp::Reverse(chunk.id()));
    for some in chunks.chunks(500) {
        upsert(&index, &collection(), some).await;
    }
    chunks.reverse();
    for mode in MODES {
        let hits = search(&index, &collection(), 7, query(mode, &DEFAULT_VECTOR, "hello")).await;
        let expected: Vec<_> = chunks[..10].iter().map(Chunk::id).collect();
        assert_eq!(ids(&hits), expected, "{mode:?}");
    }
}

#[tokio::test]
async fn a_damaged_collection_error_names_the_folder_to_delete() {
    for damage in ["segments", "all"] {
        let dir = tempfile::tempdir().unwrap();
        drop(opened(dir.path()).await);
        let folder = dir.path().join(collection().name.as_str());
        match damage {
            "segments" => std::fs::remove_dir_all(folder.join("segments")).unwrap(),
            _ => {
                for file in files(&folder.join("segments")) {
                    std::fs::write(file, "rubbish").unwrap();
                }
            }
        }
        let index = EmbeddedIndex::open(dir.path()).unwrap();
        let rejected = index.ensure(&collection()).await.unwrap_err();
        assert!(matches!(&rejected, Error::Damaged { .. }), "{damage}: {rejected:?}");
        assert!(rejected.to_string().contains(&folder.display().to_string()), "{rejected}");

        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(index.ensure(&collection()).await.unwrap(), Ensured::Created);
    }
}

#[tokio::test]
async fn a_write_fails_after_the_folder_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let index = opened(dir.path()).await;
    std::fs::remove_dir_all(dir.path().join(collection().name.as_str())).unwrap();
    let rejected = index.upsert(&collection().name, vec![Chunk::default().point()]).await;
    assert!(rejected.is_err(), "{rejected:?}");
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Set in the child process that is killed: the number of the run and the folder to write into.
const CHILD_TASK: &str = "GUILDEX_INDEX_CHILD_TASK";

#[tokio::test]
async fn completed_writes_survive_a_kill() {
    if let Ok(task) = std::env::var(CHILD_TASK) {
        let (run, dir) = task.split_once(' ').unwrap();
        return write_until_killed(Path::new(dir), run.parse().unwrap()).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut written = HashSet::new();
    let mut deleted = HashSet::new();
    for run in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["embedded::completed_writes_survive_a_kill", "--exact", "--nocapture"])
            .env(CHILD_TASK, format!("{run} {}", dir.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // A random moment; in the first run before anything was written.
        let moment = if run == 1 { 0 } else { uuid::Uuid::new_v4().as_u128() % 60 };
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut seen = 0;
        while seen < moment {
            seen += u128::from(record_line(
                &lines.next().expect("the writer stopped"),
                &mut written,
                &mut deleted,
            ));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            record_line(&line, &mut written, &mut deleted);
        }

        let index = opened(dir.path()).await;
        let stored = stored(&index).await;
        assert!(stored.is_superset(&written), "run {run} lost {:?}", written.difference(&stored));
        assert!(stored.is_disjoint(&deleted), "run {run} restored {:?}", stored.intersection(&deleted));
    }
    assert!(!written.is_empty());
}

/// Records a line of the writer; returns whether it was one.
fn record_line(line: &str, stored: &mut HashSet<PointId>, deleted_ids: &mut HashSet<PointId>) -> bool {
    let id = |text: &str| PointId::from(text.parse::<uuid::Uuid>().unwrap());
    // The child's test harness may have printed before it on the same line.
    if let Some((_, wrote)) = line.split_once("wrote ") {
        stored.insert(id(wrote))
    } else if let Some((_, deletes)) = line.split_once("deletes ") {
        stored.remove(&id(deletes))
    } else if let Some((_, deleted)) = line.split_once("deleted ") {
        deleted_ids.insert(id(deleted))
    } else {
        false
    }
}

/// Writes, deletes and optimizes, and prints each completed operation.
async fn write_until_killed(dir: &Path, run: i64) {
    let index = opened(dir).await;
    let name = collection().name;
    let say = |what: &str, chunk: &Chunk<'_>| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{what} {}", chunk.id()).unwrap();
        out.flush().unwrap();
    };
    let writers = (0..4).map(|writer| {
        let (index, name, say) = (&index, &name, &say);
        async move {
            for n in 0.. {
                let chunk = Chunk { first: 1 + run * 1_000_000 + n * 4 + writer, ..Chunk::default() };
                index.upsert(name, vec![chunk.point()]).await.unwrap();
                say("wrote", &chunk);
                if n % 3 == 2 {
                    say("deletes", &chunk);
                    index.delete_below(name, guild(7), &[(chunk.session(), revision(2))]).await.unwrap();
                    say("deleted", &chunk);
                }
                if writer == 0 && n % 8 == 7 {
                    index.optimize(name).await.unwrap();
                }
            }
        }
    });
    futures::future::join_all(writers).await;
}
