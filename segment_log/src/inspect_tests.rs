//! Looking into a log that somebody writes: bytes that are not there yet, and bytes that are not there at all.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use decoder::{Lsn, PgTimestamp, Xid};
use memmap2::MmapRaw;
use tempfile::TempDir;

use crate::builder::FrameBuilder;
use crate::error::OpenError;
use crate::frame::TransactionInfo;
use crate::fs::{Access, File, Fs, RealFs};
use crate::header::HEADER_BYTES;
use crate::inspect::overview_on;
use crate::log::{Identity, Options, open};

const LAST: u64 = 0x2040;

/// Shows zeros in a range of each file for as many reads as are left.
struct Late {
    range: Range<u64>,
    left: Arc<AtomicU32>,
}

struct LateFile {
    file: Arc<dyn File>,
    range: Range<u64>,
    left: Arc<AtomicU32>,
}

impl Fs for Late {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealFs.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let (range, left) = (self.range.clone(), Arc::clone(&self.left));
        Ok(Arc::new(LateFile { file: RealFs.open(path, access)?, range, left }))
    }

    fn prepare_dir(&self, _: &Path) -> io::Result<Result<(), String>> {
        panic!("an inspection changes nothing")
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        panic!("an inspection changes nothing")
    }

    fn create(&self, _: &Path, _: u64) -> io::Result<Arc<dyn File>> {
        panic!("an inspection changes nothing")
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        panic!("an inspection changes nothing")
    }

    fn unlink(&self, _: &Path) -> io::Result<()> {
        panic!("an inspection changes nothing")
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        panic!("an inspection changes nothing")
    }
}

impl File for LateFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.file.read_at(buffer, offset)?;
        let hidden = (offset..offset + read as u64).zip(buffer).filter(|(at, _)| self.range.contains(at));
        let mut hidden = hidden.map(|(_, byte)| byte).peekable();
        let count = |left: u32| left.checked_sub(1);
        if hidden.peek().is_some() && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok() {
            hidden.for_each(|byte| *byte = 0);
        }
        Ok(read)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        panic!("an inspection changes nothing")
    }

    fn sync(&self) -> io::Result<()> {
        panic!("an inspection changes nothing")
    }

    fn map(&self) -> io::Result<Option<MmapRaw>> {
        Ok(None)
    }
}

/// Where a log of five transactions ends for one whose first reads do not see all of its second frame.
fn end_after(reads: u32) -> Result<Lsn, OpenError> {
    let dir = TempDir::new().unwrap();
    let (database, slot, publication) = ("app".to_owned(), "walcast".to_owned(), "walcast".to_owned());
    let options = Options {
        dir: dir.path().join("log"),
        segment_size: 1 << 16,
        retain_min: 0,
        identity: Identity { system_id: 7, timeline: 1, database, slot, publication },
        start: Lsn::from_u64(0x1000),
        on_sync: Arc::new(|_| {}),
    };
    let (mut writer, log) = open(options.clone()).unwrap();
    let mut second = 0..0;
    for end in (0x2000..=LAST).step_by(16) {
        let (commit_lsn, end_lsn) = (Lsn::from_u64(end - 8), Lsn::from_u64(end));
        let mut builder = FrameBuilder::new();
        builder.begin(&TransactionInfo { xid: Xid(1), commit_lsn, end_lsn, commit_time: PgTimestamp(0) });
        builder.commit();
        writer.append(&mut builder).unwrap();
        // Each frame vouches for those before it.
        while log.positions().durable.lsn() < writer.end_lsn() {
            std::thread::yield_now();
        }
        if second.is_empty() {
            let frame = log.cursor(options.start).unwrap().next_frame().unwrap().unwrap();
            let at = HEADER_BYTES as u64 + frame.header().total_bytes();
            second = at..at + 8;
        }
    }
    let fs = Late { range: second, left: Arc::new(AtomicU32::new(reads)) };
    overview_on(&fs, &options.dir).map(|found| found.unwrap().1.end_lsn)
}

#[test]
fn a_frame_that_was_read_before_it_was_whole_is_no_damage() {
    assert_eq!(end_after(0).unwrap(), Lsn::from_u64(LAST));
    assert_eq!(end_after(1).unwrap(), Lsn::from_u64(LAST));
}

#[test]
fn a_frame_that_stays_missing_is_damage() {
    let error = end_after(u32::MAX).unwrap_err();
    assert!(matches!(error, OpenError::Damage(_)), "{error}");
}
