//! Removal of segments: what is kept for the next process and for verification, and its errors.

use std::{fs, path::PathBuf, time::Duration};

use super::{
    folder_tests::{Folder, TINY, name, removed, use_a_credential},
    *,
};
use crate::principal::Initiator;

const MINUTE: Duration = Duration::from_secs(60);

/// A folder as a process leaves it that is killed after several segments. All are old.
async fn killed() -> Folder {
    let folder = Folder::new();
    let log = folder.opened("broker-1", TINY);
    let (trail, _terminal) = Trail::begin(&log, Default::default()).unwrap();
    trail.intent(tests::intent()).await.unwrap().used().unwrap();
    for _ in 0..3 {
        use_a_credential(&log).await.unwrap();
        log.flush().await.unwrap();
    }
    folder.clock.advance(MINUTE);
    folder.killed()
}

#[tokio::test]
async fn p387_a_half_begun_segment_keeps_the_one_before_it() {
    type Cut = fn(&str) -> String;
    let cuts: [(&str, Cut); 6] = [
        ("empty", |_| String::new()),
        ("torn", |text| text.get(..40).unwrap().to_owned()),
        ("zeros", |_| "\0".repeat(4096)),
        ("only `open`", |text| text.lines().next().unwrap().to_owned() + "\n"),
        ("`open` and one torn `carried`", |text| {
            text.get(..text.find('\n').unwrap() + 40).unwrap().to_owned()
        }),
        ("in use", str::to_owned),
    ];
    for (what, cut) in cuts {
        let folder = killed().await;
        let segments = folder.segments("broker-1");
        let (last, before) = (&segments[segments.len() - 1], &segments[segments.len() - 2]);
        fs::write(last, cut(&fs::read_to_string(last).unwrap())).unwrap();
        let commands = folder.opened("commands", SegmentLimits::default());
        assert_eq!(removed(&folder, &commands, "broker-1").await, segments.len() - 2, "{what}");
        assert_eq!(folder.segments("broker-1"), [before.clone(), last.clone()], "{what}");
        assert!(folder.verified().is_whole(), "{what}");
        // Again, and after the next process has started.
        assert_eq!(removed(&folder, &commands, "broker-1").await, 0, "{what}");
        folder.run("broker-1", SegmentLimits::default(), 1).await;
        let report = folder.verified();
        assert!(report.is_whole(), "{what}: {report:?}");
        assert!(report.chains[0].report.unknown > 0, "the open request has a result: {what}");
        folder.clock.advance(MINUTE);
        assert!(removed(&folder, &commands, "broker-1").await >= 2, "{what}");
        folder.run("broker-1", SegmentLimits::default(), 1).await;
        assert!(folder.verified().is_whole(), "{what}");
    }
}

#[tokio::test]
async fn p387_a_chain_in_use_keeps_its_last_two_segments() {
    // A process that holds its last segment, and has written nothing.
    let folder = Folder::new();
    folder.run("broker-1", TINY, 3).await;
    folder.clock.advance(MINUTE);
    let sink = loop {
        match AuditFolder::open(folder.path(), &name("broker-1")) {
            Err(AuditFileError::InUse { .. }) => std::thread::yield_now(),
            opened => break opened.unwrap(),
        }
    };
    let segments = folder.segments("broker-1");
    let commands = folder.opened("commands", SegmentLimits::default());
    assert_eq!(removed(&folder, &commands, "broker-1").await, segments.len() - 2);
    drop(sink);
    folder.run("broker-1", TINY, 1).await;
    assert!(folder.verified().is_whole());
    // One segment that is in use is kept, too.
    let log = folder.opened("broker-2", SegmentLimits::default());
    log.flush().await.unwrap();
    folder.clock.advance(MINUTE);
    assert_eq!(removed(&folder, &commands, "broker-2").await, 0);
}

#[tokio::test]
async fn p386_a_sign_off_is_kept_for_an_interrupted_removal() {
    let folder = Folder::new();
    folder.run("broker-1", TINY, 4).await;
    folder.clock.advance(MINUTE);
    let all = folder.segments("broker-1");
    let copy = folder.killed();
    let commands = folder.opened("commands", TINY);
    assert_eq!(removed(&folder, &commands, "broker-1").await, all.len());
    commands.close(Duration::from_secs(20)).await.unwrap();
    drop(commands);
    folder.clock.advance(MINUTE);
    // After the record, and after some of the files: those that are left need the record.
    for kept in [&all[..], &all[1..], &all[all.len() - 1..]] {
        let folder = folder.killed();
        for path in kept {
            let file = path.file_name().unwrap();
            fs::copy(copy.path().join(file), folder.path().join(file)).unwrap();
        }
        let second = folder.opened("second", SegmentLimits::default());
        second.flush().await.unwrap();
        assert!(folder.verified().is_whole());
        removed(&folder, &second, "commands").await;
        let report = folder.verified();
        assert!(report.is_whole(), "{} kept: {report:?}", kept.len());
        assert!(report.removed.iter().any(|note| &*note.writer == "broker-1"));
        // Once they are removed, the record can be, too.
        assert_eq!(removed(&folder, &second, "broker-1").await, kept.len());
        assert!(removed(&folder, &second, "commands").await > 0);
        assert!(folder.segments("commands").is_empty());
        assert!(folder.verified().is_whole());
    }
}

#[tokio::test]
async fn a_segment_that_cannot_be_removed_is_named() {
    let folder = Folder::new();
    folder.run("broker-1", TINY, 3).await;
    folder.clock.advance(MINUTE);
    let commands = folder.opened("commands", SegmentLimits::default());
    let plan = Removal::plan(folder.path(), &name("broker-1"), folder.clock.now());
    let segments = folder.segments("broker-1");
    // A folder in its place. (An account that may write anywhere is not stopped by a permission.)
    let content = fs::read(&segments[1]).unwrap();
    fs::remove_file(&segments[1]).unwrap();
    fs::create_dir(&segments[1]).unwrap();
    let error = plan.unwrap().unwrap().run(&commands, &Initiator::operator("olga")).await;
    let error = error.unwrap_err();
    assert!(matches!(&error, RemovalError::NotRemoved { path, .. } if *path == segments[1]));
    let text = error.to_string();
    let path = segments[1].display().to_string();
    for part in [&path, "those before it are removed and recorded", "run it again"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert_eq!(folder.segments("broker-1"), segments[1..]);
    fs::remove_dir(&segments[1]).unwrap();
    fs::write(&segments[1], content).unwrap();
    assert!(folder.verified().is_whole());
    assert_eq!(removed(&folder, &commands, "broker-1").await, segments.len() - 1);
    assert!(folder.verified().is_whole());
}

#[tokio::test]
async fn a_writer_without_segments_is_named() {
    let folder = Folder::new();
    folder.run("broker-1", TINY, 1).await;
    let plan = |writer: &str, path: PathBuf| Removal::plan(path, &name(writer), folder.clock.now());
    for writer in ["broker-2", "broker", "broker-11", "1"] {
        let error = plan(writer, folder.path()).unwrap_err();
        assert!(matches!(error, RemovalError::NoSuchWriter { .. }), "{error}");
        let text = format!("the folder has no segment of writer {writer};");
        assert!(error.to_string().starts_with(&text), "{error}");
    }
    assert!(plan("broker-1", folder.path()).unwrap().is_none(), "none is old enough");
    let error = plan("broker-1", folder.path().join("nowhere")).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}
