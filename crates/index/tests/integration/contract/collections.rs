//! Contract tests of whole collections: create, drop, snapshot, restore, bulk load.

use std::path::{Path, PathBuf};

use guildex_index::{BulkLoad, Collection, CollectionName, Ensured, Error, Identity, Mode, VectorIndex};
use uuid::Uuid;

use crate::support::*;

fn scattered(count: i64) -> Vec<Chunk<'static>> {
    let mut noise = noise(11);
    (1..=count)
        .map(|first| Chunk {
            guild: 1 + first % 2,
            first,
            dense: noise.by_ref().take(DIMS).collect(),
            text: ["hello there", "the wide world"][(first % 2) as usize],
            ..Chunk::default()
        })
        .collect()
}

/// All points and rankings of the scattered chunks' guilds, without scores: these may count deleted points that are
/// not cleaned up yet.
async fn contents(
    index: &dyn VectorIndex,
    collection: &Collection,
) -> impl PartialEq + std::fmt::Debug + use<> {
    let mut points = vec![];
    let mut hits = vec![];
    for id in [1, 2] {
        points.extend(all(index, collection, guild(id)).await);
        for mode in MODES {
            let query = query(mode, &[0.1, 0.2, 0.3, 0.4], "hello");
            hits.push(ids(&search(index, collection, id, query).await));
        }
    }
    (points, hits, index.guilds(&collection.name).await.unwrap())
}

fn new_identity() -> Identity {
    Identity { database: Uuid::new_v4(), index: Uuid::new_v4() }
}

pub async fn an_identity_round_trips(index: &dyn VectorIndex, collection: &Collection) {
    let name = &collection.name;
    assert_eq!(index.identity(name).await.unwrap(), None);
    for identity in [new_identity(), new_identity()] {
        index.set_identity(name, identity).await.unwrap();
        assert_eq!(index.identity(name).await.unwrap(), Some(identity));
        assert_eq!(index.ensure(collection).await.unwrap(), Ensured::Existing);
        assert_eq!(index.identity(name).await.unwrap(), Some(identity));
    }
    assert_eq!(index.guilds(name).await.unwrap(), [], "an identity is not a point");

    let other: CollectionName = "test_other".parse().unwrap();
    for outcome in [
        index.identity(&other).await.map(drop),
        index.set_identity(&other, new_identity()).await,
        index.differences(&Collection { name: other.clone(), dims: DIMS }).await.map(drop),
        index.update_in_place(&Collection { name: other.clone(), dims: DIMS }).await.map(drop),
    ] {
        assert!(matches!(&outcome, Err(Error::NoCollection(name)) if *name == other), "{outcome:?}");
    }
}

pub async fn a_dropped_collection_is_created_again_empty(index: &dyn VectorIndex, collection: &Collection) {
    let name = &collection.name;
    let other_collection = Collection { name: "test_other_collection".parse().unwrap(), dims: DIMS };
    index.ensure(&other_collection).await.unwrap();
    for at in [collection, &other_collection] {
        upsert(index, at, &[Chunk::default()]).await;
    }
    index.set_identity(name, new_identity()).await.unwrap();
    for _ in 0..2 {
        index.drop_collection(name).await.unwrap();
        let count = index.count(name, guild(7)).await;
        assert!(matches!(&count, Err(Error::NoCollection(_))), "{count:?}");
    }
    assert_eq!(index.ensure(collection).await.unwrap(), Ensured::Created);
    assert_eq!(index.identity(name).await.unwrap(), None);
    assert_eq!(index.count(name, guild(7)).await.unwrap(), 0);
    // Its revision is lower than that of the point in the dropped collection.
    upsert(index, collection, &[Chunk { revision: 0, ..Chunk::default() }]).await;
    assert_eq!(index.count(name, guild(7)).await.unwrap(), 1);
    assert_eq!(index.count(&other_collection.name, guild(7)).await.unwrap(), 1);
}

pub async fn a_snapshot_restores_its_points(index: &dyn VectorIndex, collection: &Collection) {
    let name = &collection.name;
    let mut chunks = scattered(60);
    upsert(index, collection, &chunks).await;
    let sessions = [(chunks[4].session(), revision(9))];
    index.delete_below(name, guild(chunks[4].guild), &sessions).await.unwrap();
    let before = contents(index, collection).await;
    let folder = tempfile::tempdir().unwrap();
    index.snapshot(name, folder.path()).await.unwrap();
    assert_eq!(contents(index, collection).await, before);

    // Twice: a snapshot can be restored again.
    for round in 0..2 {
        for chunk in &mut chunks[..20] {
            chunk.revision = 5 + round;
            chunk.dense.reverse();
        }
        upsert(index, collection, &chunks[..20]).await;
        upsert(index, collection, &[Chunk { guild: 3, ..Chunk::default() }]).await;
        let deleted: Vec<_> = chunks[30..].iter().map(|chunk| (chunk.session(), revision(9))).collect();
        index.delete_below(name, guild(1), &deleted).await.unwrap();
        assert_ne!(contents(index, collection).await, before);

        index.restore(collection, folder.path()).await.unwrap();
        assert_eq!(contents(index, collection).await, before);
        let identity = new_identity();
        index.set_identity(name, identity).await.unwrap();
        assert_eq!(index.identity(name).await.unwrap(), Some(identity));
    }

    // Later writes apply, compared with the restored revisions.
    chunks[0].revision = 2;
    upsert(index, collection, &chunks[..1]).await;
    let points = all(index, collection, guild(chunks[0].guild)).await;
    let stored = points.iter().find(|point| point.id == chunks[0].id()).unwrap();
    assert_eq!(stored.payload.revision, revision(2));
    index.delete_below(name, guild(chunks[0].guild), &[(chunks[0].session(), revision(3))]).await.unwrap();
    assert_eq!(index.count(name, guild(chunks[0].guild)).await.unwrap(), points.len() - 1);
    index.optimize(name).await.unwrap();
    assert_eq!(index.count(name, guild(chunks[0].guild)).await.unwrap(), points.len() - 1);
}

pub async fn a_snapshot_restores_a_missing_collection(index: &dyn VectorIndex, collection: &Collection) {
    upsert(index, collection, &scattered(20)).await;
    let before = contents(index, collection).await;
    let folder = tempfile::tempdir().unwrap();
    index.snapshot(&collection.name, folder.path()).await.unwrap();

    let twin = Collection { name: "test_twin".parse().unwrap(), dims: DIMS };
    index.restore(&twin, folder.path()).await.unwrap();
    assert_eq!(index.ensure(&twin).await.unwrap(), Ensured::Existing);
    assert_eq!(contents(index, &twin).await, before);
    upsert(index, &twin, &[Chunk { guild: 3, ..Chunk::default() }]).await;
    assert_eq!(contents(index, collection).await, before, "the restored collection differs");

    index.drop_collection(&collection.name).await.unwrap();
    index.restore(collection, folder.path()).await.unwrap();
    assert_eq!(contents(index, collection).await, before);
}

pub async fn an_invalid_snapshot_is_rejected_and_changes_nothing(
    index: &dyn VectorIndex,
    collection: &Collection,
) {
    upsert(index, collection, &scattered(20)).await;
    let identity = new_identity();
    index.set_identity(&collection.name, identity).await.unwrap();
    let before = contents(index, collection).await;

    let snapshot = async |of: &Collection| {
        let folder = tempfile::tempdir().unwrap();
        index.snapshot(&of.name, folder.path()).await.unwrap();
        folder
    };
    let empty = tempfile::tempdir().unwrap();
    let rubbish = tempfile::tempdir().unwrap();
    std::fs::write(rubbish.path().join("notes.txt"), "not a snapshot").unwrap();
    let cut = snapshot(collection).await;
    for path in files(cut.path()) {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }
    let emptied = snapshot(collection).await;
    files(emptied.path()).into_iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let wide = Collection { name: "test_wide".parse().unwrap(), dims: DIMS + 1 };
    index.ensure(&wide).await.unwrap();
    let other_dims = snapshot(&wide).await;

    let missing = empty.path().join("missing");
    let absent = Collection { name: "test_absent".parse().unwrap(), dims: DIMS };
    for folder in [empty.path(), &missing, rubbish.path(), cut.path(), emptied.path(), other_dims.path()] {
        for target in [collection, &absent] {
            let rejected = index.restore(target, folder).await;
            assert!(rejected.is_err(), "{} was restored", folder.display());
        }
        assert_eq!(contents(index, collection).await, before);
        assert_eq!(index.identity(&collection.name).await.unwrap(), Some(identity));
        let still = index.count(&absent.name, guild(1)).await;
        assert!(matches!(&still, Err(Error::NoCollection(_))), "{still:?}");
    }
    upsert(index, collection, &[Chunk { guild: 3, ..Chunk::default() }]).await;
    assert_eq!(index.count(&collection.name, guild(3)).await.unwrap(), 1);

    let nothing = index.snapshot(&absent.name, empty.path()).await;
    assert!(matches!(&nothing, Err(Error::NoCollection(_))), "{nothing:?}");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

pub async fn a_bulk_load_does_not_change_results(index: &dyn VectorIndex, collection: &Collection) {
    let chunks = scattered(40);
    let other = Collection { name: "test_other".parse().unwrap(), dims: DIMS };
    index.ensure(&other).await.unwrap();
    upsert(index, &other, &chunks).await;
    let expected = contents(index, &other).await;

    // A begin may be repeated, if a process died in between, and an end may come without a begin.
    for bulk in [BulkLoad::End, BulkLoad::Begin, BulkLoad::Begin] {
        index.bulk_load(&collection.name, bulk).await.unwrap();
    }
    upsert(index, collection, &chunks).await;
    assert_eq!(contents(index, collection).await, expected);
    index.bulk_load(&collection.name, BulkLoad::End).await.unwrap();
    assert_eq!(contents(index, collection).await, expected);
    upsert(index, collection, &chunks[..3]).await;
    assert_eq!(contents(index, collection).await, expected);
}

pub async fn a_new_collection_has_no_differences(index: &dyn VectorIndex, collection: &Collection) {
    assert_eq!(index.differences(collection).await.unwrap(), []);
    upsert(index, collection, &scattered(20)).await;
    index.optimize(&collection.name).await.unwrap();
    assert_eq!(index.differences(collection).await.unwrap(), []);

    assert_eq!(index.update_in_place(collection).await.unwrap(), []);

    let wider = Collection { dims: DIMS + 1, ..collection.clone() };
    let differences = index.differences(&wider).await.unwrap();
    assert!(matches!(&differences[..], [one] if one.fatal), "{differences:?}");
    assert_eq!(index.update_in_place(&wider).await.unwrap(), differences, "dimensions cannot be updated");
    assert_eq!(index.differences(collection).await.unwrap(), []);
}

pub async fn a_running_index_answers_a_ping(index: &dyn VectorIndex, collection: &Collection) {
    index.ping().await.unwrap();
    let other = Collection { name: "test_other".parse().unwrap(), dims: DIMS };
    index.ensure(&other).await.unwrap();
    for target in [collection, &other, &other] {
        index.set_alias("test", &target.name).await.unwrap();
    }
    upsert(index, collection, &[Chunk::default()]).await;
    let target = query(Mode::Hybrid, &DEFAULT_VECTOR, "hello");
    assert_eq!(search(index, collection, 7, target).await.len(), 1);
    assert_eq!(index.count(&other.name, guild(7)).await.unwrap(), 0);
}
