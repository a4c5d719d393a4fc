//! What the embedded engine holds beyond the contract: durability, one holder a folder, damage.
#![cfg(feature = "edge")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use guildex_index::{Collection, CollectionName, EdgeIndex, Ensured, Error, Mode, Scope, VectorIndex};
use guildex_types::PointId;
use support::*;

fn collection() -> Collection {
    Collection { name: CollectionName::new("test", &model()).unwrap(), dims: DIMS }
}

async fn opened(dir: &Path) -> EdgeIndex {
    let index = EdgeIndex::open(dir).unwrap();
    index.collections().ensure(&collection()).await.unwrap();
    index
}

async fn stored(index: &EdgeIndex) -> HashSet<PointId> {
    all(index, &collection(), guild(7)).await.into_iter().map(|point| point.id).collect()
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let chunk = |first| Chunk { first, ..Chunk::default() };
    let index = opened(dir.path()).await;
    upsert(&index, &collection(), &[chunk(1), chunk(2), chunk(3)]).await;
    let gone = [(chunk(2).session(), revision(9))];
    index.delete_below(&collection().name, guild(7), &gone).await.unwrap();
    drop(index);

    // Without `ensure`: a reader of an existing folder need not know the dimensions.
    let index = EdgeIndex::open(dir.path()).unwrap();
    assert_eq!(stored(&index).await, HashSet::from([chunk(1).id(), chunk(3).id()]));
    assert_eq!(index.collections().ensure(&collection()).await.unwrap(), Ensured::Existing);
    let query = query(Mode::Hybrid, &chunk(1).dense, "hello");
    let hits = index.search(&collection().name, &Scope::guild(guild(7)), query).await.unwrap();
    assert_eq!(hits.len(), 2);
}

#[tokio::test]
async fn changes_apply_after_every_reopening() {
    // The engine numbers changes by its log and skips those below what a point has seen.
    let dir = tempfile::tempdir().unwrap();
    for number in 1..=4 {
        let index = opened(dir.path()).await;
        let chunk = Chunk { revision: number, ..Chunk::default() };
        upsert(&index, &collection(), std::slice::from_ref(&chunk)).await;
        if number == 2 {
            index.collections().optimize(&collection().name).await.unwrap();
        }
        assert_eq!(all(&index, &collection(), guild(7)).await, [chunk.point()]);
    }
}

#[tokio::test]
async fn a_log_that_grew_is_cut_and_changes_still_apply() {
    let dir = tempfile::tempdir().unwrap();
    // Vectors of about 300 KiB in the log, whose files hold 8 MiB.
    let wide = Collection { dims: 1 << 16, ..collection() };
    let at = |number| Chunk { revision: number, dense: vec![0.1; wide.dims], ..Chunk::default() };
    let log = dir.path().join(wide.name.as_str()).join("wal");
    let closed = || {
        let entries = std::fs::read_dir(&log).unwrap();
        entries.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("closed-")).count()
    };
    let index = EdgeIndex::open(dir.path()).unwrap();
    index.collections().ensure(&wide).await.unwrap();
    for number in 1..=64 {
        upsert(&index, &wide, &[at(number)]).await;
    }
    drop(index);
    assert!(closed() > 1, "the log did not grow; the test tests nothing");

    let index = EdgeIndex::open(dir.path()).unwrap();
    upsert(&index, &wide, &[at(65)]).await;
    assert_eq!(closed(), 1);
    let page = index.scroll(&wide.name, guild(7), None, 9).await.unwrap();
    let revisions: Vec<_> = page.points.iter().map(|point| point.payload.revision).collect();
    assert_eq!(revisions, [revision(65)]);
}

#[tokio::test]
async fn many_writers_at_once_all_get_through() {
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
async fn a_second_holder_is_refused_and_told_who_holds() {
    let dir = tempfile::tempdir().unwrap();
    let index = opened(dir.path()).await;
    match EdgeIndex::open(dir.path()) {
        Err(Error::InUse { holder, .. }) => assert_eq!(holder, std::process::id().to_string()),
        other => panic!("{:?}", other.err()),
    }
    drop(index);
    EdgeIndex::open(dir.path()).unwrap();
}

#[tokio::test]
async fn a_collection_that_was_never_finished_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let draft = dir.path().join(format!(".new-{}", collection().name)).join("segments");
    std::fs::create_dir_all(&draft).unwrap();
    std::fs::write(draft.join("half"), "written").unwrap();
    let index = EdgeIndex::open(dir.path()).unwrap();
    assert_eq!(index.collections().ensure(&collection()).await.unwrap(), Ensured::Created);
    upsert(&index, &collection(), &[Chunk::default()]).await;
}

#[tokio::test]
async fn a_damaged_collection_says_what_to_delete() {
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
        let index = EdgeIndex::open(dir.path()).unwrap();
        let refused = index.collections().ensure(&collection()).await.unwrap_err();
        assert!(matches!(&refused, Error::Damaged { .. }), "{damage}: {refused:?}");
        assert!(refused.to_string().contains(&folder.display().to_string()), "{refused}");

        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(index.collections().ensure(&collection()).await.unwrap(), Ensured::Created);
    }
}

#[tokio::test]
async fn a_folder_that_vanishes_fails_the_next_write() {
    let dir = tempfile::tempdir().unwrap();
    let index = opened(dir.path()).await;
    std::fs::remove_dir_all(dir.path().join(collection().name.as_str())).unwrap();
    let refused = index.upsert(&collection().name, vec![Chunk::default().point()]).await;
    assert!(refused.is_err(), "{refused:?}");
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Set in the process that is to be killed: the folder that it writes into, and the number of its life.
const VICTIM: &str = "GUILDEX_INDEX_VICTIM";

#[tokio::test]
async fn what_returned_survives_a_kill() {
    if let Ok(task) = std::env::var(VICTIM) {
        let (life, dir) = task.split_once(' ').unwrap();
        return write_for_ever(Path::new(dir), life.parse().unwrap()).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut there = HashSet::new();
    let mut gone = HashSet::new();
    for life in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["what_returned_survives_a_kill", "--exact", "--nocapture"])
            .env(VICTIM, format!("{life} {}", dir.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // A different moment in each life and each run; once before anything was written.
        let moment = if life == 1 { 0 } else { uuid::Uuid::new_v4().as_u128() % 60 };
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut seen = 0;
        while seen < moment {
            seen +=
                u128::from(note(&lines.next().expect("the writer stopped by itself"), &mut there, &mut gone));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            note(&line, &mut there, &mut gone);
        }

        let index = opened(dir.path()).await;
        let stored = stored(&index).await;
        assert!(stored.is_superset(&there), "life {life} lost {:?}", there.difference(&stored));
        assert!(stored.is_disjoint(&gone), "life {life} brought back {:?}", stored.intersection(&gone));
    }
    assert!(!there.is_empty());
}

/// Takes a line of the writer's; whether it was one.
fn note(line: &str, there: &mut HashSet<PointId>, gone: &mut HashSet<PointId>) -> bool {
    let id = |text: &str| PointId::from(text.parse::<uuid::Uuid>().unwrap());
    // The test harness of the child may have printed in front of it.
    if let Some((_, wrote)) = line.split_once("wrote ") {
        there.insert(id(wrote))
    } else if let Some((_, deletes)) = line.split_once("deletes ") {
        there.remove(&id(deletes))
    } else if let Some((_, deleted)) = line.split_once("deleted ") {
        gone.insert(id(deleted))
    } else {
        false
    }
}

/// Writes, deletes and reorganises, and says so once it is done.
async fn write_for_ever(dir: &Path, life: i64) {
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
                let chunk = Chunk { first: 1 + life * 1_000_000 + n * 4 + writer, ..Chunk::default() };
                index.upsert(name, vec![chunk.point()]).await.unwrap();
                say("wrote", &chunk);
                if n % 3 == 2 {
                    say("deletes", &chunk);
                    index.delete_below(name, guild(7), &[(chunk.session(), revision(2))]).await.unwrap();
                    say("deleted", &chunk);
                }
                if writer == 0 && n % 8 == 7 {
                    index.collections().optimize(name).await.unwrap();
                }
            }
        }
    });
    futures::future::join_all(writers).await;
}
