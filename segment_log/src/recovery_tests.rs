//! One test per row of the table in `recovery.rs`, and damage at every byte.

use std::path::{Path, PathBuf};

use decoder::Lsn;

use crate::error::{Damage, OpenError, ReadError};
use crate::fs_memory::{Fault, MemoryFs, Rng};
use crate::header::{HEADER_BYTES, Header};
use crate::inspect::inspect_on;
use crate::model_tests::{Bench, START, options};

/// A log of several full segments and a last one, all synced, with 12 transactions that came one by one.
struct Built {
    fs: MemoryFs,
    end: u64,
}

fn build(transactions: u64, rows: u64) -> Built {
    let mut rng = Rng(11);
    let mut bench = Bench::open(&MemoryFs::default()).unwrap();
    for _ in 0..transactions {
        bench.small_transaction(rows, &mut rng).unwrap();
        bench.append().unwrap();
        assert!(bench.sync());
    }
    Built { fs: bench.fs.clone(), end: bench.last }
}

impl Built {
    fn segments(&self) -> Vec<PathBuf> {
        let mut files = self.fs.files();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
        files
    }

    fn last(&self) -> PathBuf {
        self.segments().pop().unwrap()
    }

    /// Appends without syncing.
    fn append_unsynced(&self, transactions: u64) -> Built {
        let mut bench = Bench::open(&self.fs.copy()).unwrap();
        for _ in 0..transactions {
            bench.small_transaction(2, &mut Rng(5)).unwrap();
            bench.append().unwrap();
        }
        Built { fs: bench.fs.clone(), end: bench.last }
    }

    fn with(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Built {
        let fs = self.fs.copy();
        let mut content = fs.content(path);
        change(&mut content);
        fs.put(path, content);
        Built { fs, end: self.end }
    }

    fn end(&self) -> Result<u64, OpenError> {
        Bench::open(&self.fs).map(|bench| bench.last)
    }

    fn damage(&self) -> Damage {
        match self.end() {
            Err(OpenError::Damage(damage)) => damage,
            other => panic!("expected damage, got {other:?}"),
        }
    }

    /// Opens and reads all of it: how far it goes, or what is wrong.
    fn read_to_end(&self) -> Result<u64, String> {
        let mut bench = Bench::open(&self.fs).map_err(|error| error.to_string())?;
        let seen = bench.read_tailing().map_err(|error| error.to_string())?;
        let last = seen.last().map_or(START, |(lsn, _)| *lsn);
        assert_eq!(last, bench.last);
        Ok(last)
    }
}

/// Offset and length of each frame.
fn frames(content: &[u8]) -> Vec<(usize, usize)> {
    let mut frames = Vec::new();
    let mut at = HEADER_BYTES;
    while at + 64 <= content.len() && content[at + 8] != 0 {
        let len = u32::from_le_bytes(content[at..at + 4].try_into().unwrap()) as usize;
        frames.push((at, (64 + len).next_multiple_of(16)));
        at += frames[frames.len() - 1].1;
    }
    frames
}

fn used(content: &[u8]) -> usize {
    frames(content).last().map_or(HEADER_BYTES, |(at, len)| at + len)
}

#[test]
fn an_empty_directory_becomes_a_log_that_begins_at_the_start_position() {
    let bench = Bench::open(&MemoryFs::default()).unwrap();
    assert_eq!((bench.last, bench.durable()), (START, START));
    assert_eq!(bench.fs.files().len(), 1);
}

#[test]
fn a_clean_log_is_left_as_it_is() {
    let built = build(30, 6);
    let before: Vec<_> = built.segments().iter().map(|path| built.fs.content(path)).collect();
    assert!(before.len() > 3, "the log has only {} segments", before.len());
    assert_eq!(built.end().unwrap(), built.end);
    let after: Vec<_> = built.segments().iter().map(|path| built.fs.content(path)).collect();
    assert!(before == after);
}

#[test]
fn a_torn_last_frame_is_cut_and_zeroed() {
    let synced = build(2, 2);
    let torn = synced.append_unsynced(1);
    let path = torn.last();
    let end = used(&synced.fs.content(&path));
    let torn = torn.with(&path, |content| content[end + 90] ^= 1);
    assert_eq!(torn.end().unwrap(), synced.end);
    assert!(torn.fs.content(&path)[end..].iter().all(|byte| *byte == 0));
}

#[test]
fn valid_frames_after_a_torn_one_are_cut_too_when_none_was_synced() {
    let synced = build(2, 2);
    let torn = synced.append_unsynced(5);
    let path = torn.last();
    let end = used(&synced.fs.content(&path));
    let torn = torn.with(&path, |content| content[end + 90] ^= 1);
    assert_eq!(torn.end().unwrap(), synced.end);
    assert!(torn.fs.content(&path)[end..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_bad_frame_that_had_been_synced_is_damage() {
    let built = build(4, 2);
    let path = built.last();
    let (at, _) = frames(&built.fs.content(&path))[2];
    let damage = built.with(&path, |content| content[at + 90] ^= 1).damage();
    assert_eq!((damage.path, damage.offset), (path, at as u64));
    assert!(damage.what.contains("had been synced"), "{}", damage.what);
}

#[test]
fn a_bad_frame_is_damage_when_a_later_segment_says_it_had_been_synced() {
    let built = build(30, 6);
    let segments = built.segments();
    let path = &segments[segments.len() - 2];
    let (at, _) = *frames(&built.fs.content(path)).last().unwrap();
    let damaged = built.with(path, |content| content[at + 70] ^= 1);
    // It was synced before the last segment was made, so the start relies on it and whoever reads it finds out.
    assert_eq!(damaged.end().unwrap(), built.end);
    let error = damaged.read_to_end().unwrap_err();
    assert!(error.contains(path.to_str().unwrap()) && error.contains(&format!("offset {at}")), "{error}");
    let report = inspect_on(&damaged.fs, Path::new("log")).unwrap().check().unwrap();
    assert!(matches!(&*report.problems, [OpenError::Damage(damage)] if damage.offset == at as u64));
}

#[test]
fn a_frame_with_the_right_checksum_that_makes_no_sense_is_damage() {
    let built = build(3, 2);
    let path = built.last();
    let content = built.fs.content(&path);
    let (at, len) = *frames(&content).last().unwrap();
    let damage = built
        .with(&path, |content| {
            // One transaction more than there is.
            content[at + 48] += 1;
            let salt = Header::decode(content).unwrap().salt;
            let crc = crate::frame::frame_crc(salt, &content[at..at + len]);
            content[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        })
        .damage();
    assert_eq!((damage.path, damage.offset), (path, at as u64));
}

#[test]
fn a_transaction_without_its_end_is_cut_off_with_the_segments_it_filled() {
    for rows in [20, 200] {
        let synced = build(3, 2);
        let mut bench = Bench::open(&synced.fs.copy()).unwrap();
        bench.unfinished_transaction(rows, &mut Rng(5)).unwrap();
        assert!(bench.sync());
        assert_eq!(bench.fs.files().len() > 2, rows == 200);
        let fs = bench.fs.clone();
        drop(bench);
        let reopened = Bench::open(&fs).unwrap();
        assert_eq!(reopened.last, synced.end);
        assert_eq!(fs.files().len(), 1);
        assert_eq!(used(&fs.content(&fs.files()[0])), used(&synced.fs.content(&synced.last())));
    }
}

#[test]
fn a_start_that_dies_while_it_cuts_an_unfinished_transaction_can_be_repeated() {
    let synced = build(1, 2);
    for (rows, seed) in [20, 60].into_iter().flat_map(|rows| (0..20).map(move |seed| (rows, seed))) {
        for n in 1.. {
            let mut bench = Bench::open(&synced.fs.copy()).unwrap();
            bench.unfinished_transaction(rows, &mut Rng(5)).unwrap();
            let fs = bench.fs.clone();
            drop(bench);
            fs.write_short(Rng(seed));
            fs.fail_at(n, Fault::Death);
            let died = Bench::open(&fs).is_err();
            if n % 2 == 0 {
                fs.lose_power(&mut Rng(seed));
            }
            fs.heal();
            let reopened = Bench::open(&fs).map(|bench| bench.last).map_err(|error| error.to_string());
            assert_eq!(reopened, Ok(synced.end), "{rows} rows, seed {seed}, death at operation {n}");
            if !died {
                break;
            }
        }
    }
}

#[test]
fn a_log_that_begins_inside_a_transaction_without_end_is_damaged() {
    let mut bench = Bench::open(&MemoryFs::default()).unwrap();
    bench.unfinished_transaction(200, &mut Rng(5)).unwrap();
    assert!(bench.sync());
    let built = Built { fs: bench.fs.clone(), end: 0 };
    drop(bench);
    built.fs.take(&built.segments()[0]);
    assert!(built.damage().what.contains("inside a transaction"));
}

#[test]
fn a_missing_segment_is_named() {
    let built = build(30, 6);
    let segments = built.segments();
    built.fs.take(&segments[1]);
    assert!(matches!(built.end(), Err(OpenError::Missing { missing: 2, next }) if next == segments[2]));
}

#[test]
fn a_segment_that_is_there_twice_is_named() {
    let built = build(30, 6);
    let segments = built.segments();
    let copy =
        PathBuf::from(segments[1].to_str().unwrap().replace(".seg", "").replace("0002-00000000", "0002-00000001"));
    let copy = copy.with_extension("seg");
    built.fs.put(&copy, built.fs.content(&segments[1]));
    assert!(matches!(built.end(), Err(OpenError::Duplicate { seq: 2, second, .. }) if second == copy));
}

#[test]
fn a_name_that_differs_from_the_header_is_damage() {
    let built = build(3, 2);
    let content = built.fs.take(&built.last());
    built.fs.put(Path::new("log/0000000000000001-0000000000001001.seg"), content);
    assert!(built.damage().what.contains("name"));
}

#[test]
fn a_log_of_another_stream_is_refused() {
    type Change = fn(&mut crate::log::Identity);
    let changes: [(&str, Change); 5] = [
        ("system", |identity| identity.system_id = 8),
        ("timeline", |identity| identity.timeline = 2),
        ("database", |identity| identity.database.push('x')),
        ("slot", |identity| identity.slot.push('x')),
        ("publication", |identity| identity.publication.push('x')),
    ];
    let built = build(2, 2);
    for (part, change) in changes {
        let mut options = options();
        change(&mut options.identity);
        let fs = std::sync::Arc::new(built.fs.copy());
        let refused = crate::log::open_on(fs, options).err().unwrap();
        assert!(matches!(refused, OpenError::Foreign { what, .. } if what == part), "{refused}");
    }
}

#[test]
fn a_log_of_another_version_is_refused() {
    let built = build(2, 2);
    for version in [0u8, 2] {
        let changed = built.with(&built.last(), |content| {
            (content[8], content[12]) = (version, version);
            let crc = crc32c::crc32c_append(crc32c::crc32c(&content[..20]), &content[24..HEADER_BYTES]);
            content[20..24].copy_from_slice(&crc.to_le_bytes());
        });
        let refused = changed.end().unwrap_err();
        assert!(matches!(refused, OpenError::Version { found, expected: 1, .. } if found == u32::from(version)));
    }
}

#[test]
fn a_last_segment_whose_creation_was_not_finished_is_removed() {
    let built = build(3, 2);
    let next = PathBuf::from(format!("log/0000000000000002-{:016X}.seg", built.end));
    for content in [vec![], vec![0; 100], vec![7; 4095], vec![0; 8192]] {
        built.fs.put(&next, content);
        assert_eq!(built.end().unwrap(), built.end);
        assert_eq!(built.fs.files().len(), 1);
    }
}

#[test]
fn an_empty_segment_in_the_middle_is_damage() {
    let built = build(30, 6);
    let middle = &built.segments()[1];
    for content in [vec![], vec![0; 8192]] {
        assert_eq!(built.with(middle, |old| *old = content).damage().path, *middle);
    }
}

#[test]
fn a_bad_header_is_damage_wherever_it_is() {
    let built = build(30, 6);
    for path in built.segments() {
        let damage = built.with(&path, |content| content[30] ^= 4).damage();
        assert_eq!((damage.path, damage.offset), (path.clone(), 0));
        let damage = built.with(&path, |content| content[..HEADER_BYTES].fill(0)).damage();
        assert_eq!((damage.path, damage.offset), (path, 0));
    }
}

#[test]
fn leftover_files_are_removed_and_those_of_others_are_not() {
    let built = build(3, 2);
    for name in ["0000000000000002-0000000000001234.seg.tmp", "0000000000000001-0000000000000123.free"] {
        built.fs.put(&Path::new("log").join(name), vec![1, 2, 3]);
    }
    for name in ["control.sock", "spool-17"] {
        built.fs.put(&Path::new("log").join(name), vec![]);
    }
    assert_eq!(built.end().unwrap(), built.end);
    assert_eq!(built.fs.files().len(), 3);
}

#[test]
fn a_stale_frame_of_an_earlier_life_never_comes_back() {
    let old = build(3, 2);
    let old_frames = old.fs.content(&old.last());
    let mut bench = Bench::open(&MemoryFs::default()).unwrap();
    bench.small_transaction(2, &mut Rng(11)).unwrap();
    bench.append().unwrap();
    let new = Built { fs: bench.fs.clone(), end: bench.last };
    drop(bench);
    let path = new.last();
    // The second frame of another life, at the very place where this life's second frame is expected.
    let (at, len) = frames(&old_frames)[1];
    let stale = new.with(&path, |content| {
        let end = used(content);
        content[end..end + len].copy_from_slice(&old_frames[at..at + len]);
    });
    assert_eq!(stale.end().unwrap(), new.end);
}

#[test]
fn a_flipped_bit_at_any_byte_is_never_read_as_data() {
    let built = build(5, 8);
    let segments = built.segments();
    assert_eq!(segments.len(), 2, "one closed segment and the open one");
    for (index, path) in segments.iter().enumerate() {
        let content = built.fs.content(path);
        let used = used(&content);
        // The last transaction and the descriptors before it.
        let tail = frames(&content).iter().rev().nth(1).unwrap().0;
        // Beyond the last frame there is nothing to damage; a few bytes of it show that.
        for at in (0..used).chain((used..content.len()).step_by(61)) {
            let changed = built.with(path, |content| content[at] ^= 1 << (at % 8));
            let result = changed.read_to_end();
            match result {
                // The last frames may be what a crash tore: then they are gone, and the slot has them.
                Ok(end) if index == 1 && at >= tail && at < used => assert!(end < built.end),
                Ok(end) => assert!(at >= used && end == built.end, "byte {at} of {}", path.display()),
                Err(text) => assert!(at < used && text.contains(path.to_str().unwrap()), "byte {at}: {text}"),
            }
        }
    }
}

#[test]
fn a_tail_cut_or_zeroed_at_any_byte_ends_with_the_last_whole_frame() {
    let synced = build(2, 2);
    let three = synced.append_unsynced(3);
    let path = three.last();
    let first = used(&synced.fs.content(&path));
    let content = three.fs.content(&path);
    let ends: Vec<usize> = frames(&content).iter().map(|(at, len)| at + len).collect();
    let mut reached = std::collections::BTreeSet::new();
    for cut in first..=used(&content) {
        let zeroed = three.with(&path, |content| content[cut..].fill(0));
        let truncated = three.with(&path, |content| content.truncate(cut));
        for changed in [zeroed, truncated] {
            let mut bench = Bench::open(&changed.fs).unwrap();
            reached.insert(bench.last);
            if ends.contains(&cut) && cut == used(&content) {
                assert_eq!(bench.last, three.end);
            }
            assert!(bench.last >= synced.end);
            assert_eq!(changed.fs.content(&path).len(), content.len());
            bench.small_transaction(2, &mut Rng(6)).unwrap();
            bench.append().unwrap();
            let last = bench.last;
            drop(bench);
            assert_eq!(changed.read_to_end().unwrap(), last);
        }
    }
    assert_eq!(reached.len(), 4, "the synced end and each of the three transactions");
}

#[test]
fn every_problem_says_what_to_do() {
    let built = build(30, 6);
    built.fs.take(&built.segments()[1]);
    let error = built.end().unwrap_err();
    assert!(error.hint().is_some() && error.class() == crate::error::Class::Fatal);
    let desync = ReadError::Desync { after: Lsn::from_u64(1), first_lsn: Lsn::from_u64(2) };
    assert_eq!(desync.to_string(), "the log begins at 0/2, after the wanted position 0/1");
}
