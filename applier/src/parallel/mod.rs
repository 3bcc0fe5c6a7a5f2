//! The parallel tier (`apply.workers`): transactions run on several sessions at once and *commit in the source's order*.
//!
//! It is for backlogs that cannot be netted (tables with several unique indexes, exclusion constraints, changing keys),
//! on targets with cores to spare. A batch is divided into *units*, a few whole transactions each; each worker, a session
//! of its own, has one unit at a time.
//!
//! # A timeline
//!
//! Units 7, 8 and 9; workers A and B. What stands on a line is sent in one go.
//!
//! | A | B | |
//! | --- | --- | --- |
//! | BEGIN, take turn 7; rows of 7 | BEGIN, take turn 8; rows of 8 | a turn is an advisory lock that ends with the transaction |
//! | "I have turn 7, as xid 501" | "I have turn 8, as xid 502" | only now may unit 8 ask for turn 7 |
//! | checkpoint is end of 7, COMMIT | await turn 7, was 501 committed? | B rests in the lock table |
//! | | checkpoint is end of 8, COMMIT | 501 is, so it goes on at once, without a word of walcast |
//! | BEGIN, take turn 9; rows of 9 | | |
//!
//! A reader therefore sees only states that the source had, and what is lost in a crash is a tail.
//!
//! # What keeps it right
//!
//! Not the search for dependencies: that only keeps units that touch the same row from running into each other. Whatever
//! runs out of order and matters to the rows shows itself, because every change must hit exactly one row and locks are held
//! to the end:
//!
//! | unit 8 runs before unit 7, and | then |
//! | --- | --- |
//! | updates or deletes a row that 7 inserts | it hits no row: it fails |
//! | updates or deletes a row that 7 changes | 7 waits for 8's row lock, 8 for 7's turn: the target finds the deadlock |
//! | inserts a key or unique value that 7 frees | unique violation, or it waits for 7 where that has begun |
//! | truncates, or inserts into what 7 truncates | deadlock, as above; such a batch is not divided anyway |
//!
//! For the target to find a deadlock, 8 must have asked it for 7's turn. So 8 hears of 7's transaction as soon as the answer
//! to 7's first statement is read, whatever 7's session waits for then.
//!
//! A unit that fails takes all behind it along (their question is answered by no), and the rest of the batch is applied in
//! order by one session. Triggers that fire in a replica session may read what they like, so batches with changes of such
//! tables are never divided. Foreign keys do not fire there.
//!
//! # Where the target is
//!
//! A replication origin or one row could be moved by one session at a time. So each worker has a row of its own in
//! `walcast.checkpoint` ([`Identity::worker`](crate::Identity)), moved in the transaction of each unit; as units commit in
//! order the target is at the greatest of all positions. After the batch the first session moves the target's own
//! checkpoint there, and a session that begins takes over what workers left ([`checkpoint::left_by_workers`]), once none of
//! their sessions is alive. Workers begin where they find the target's own checkpoint as the first session has it, and the first
//! session is asked for a sign of life after them: so they are on the same server, and whoever took over from it since
//! either finds them or has been found.
//!
//! # When
//!
//! | the batch | is applied |
//! | --- | --- |
//! | is smaller than [`net::CHANGES_MIN`](crate::net) | in order, by one session |
//! | most of what the last large one changed could be netted | netted |
//! | most could not, and nothing in it forbids (a message, TRUNCATE, triggers that fire, a copy under way) | in parallel |
//! | comes after one that failed here, was slower than one session, or whose units waited | without workers, for 1, 2, 4 … 64 batches |
//!
//! So workers may be configured where they seldom pay. They do where a session of the target mostly waits, for its disk or
//! for locks: with 0.2 ms of waiting for each row, 2 workers applied 1.9, 4 workers 3.1, 16 workers 5.5 times as fast as
//! one session (`measure.rs`, two unique indexes; a sixth of it always goes by one session there). On two cores, shared with
//! walcast and all else and with everything in memory, they were slower: 0.5 to 0.7 times, which is when they rest.

mod crew;
mod share;
mod unit;

pub(crate) use crew::Crew;
pub(crate) use share::Sharing;
