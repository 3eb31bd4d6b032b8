-- The signed files come to a site in one of two ways, and lie apart. What ocspsyncd has
-- fetched and verified is in ocsp_feed. Under the master's own names the apply worker of
-- subscription ocspfleet_files writes what the master publishes, unverified: each reader
-- verifies it.
create schema ocsp_feed authorization ocsp_owner;

set role ocsp_owner;

create table ocsp_feed.segment (like ocsp_internal.segment including all);
create table ocsp_feed.feed_checkpoint (like ocsp_internal.feed_checkpoint including all);
create table ocsp_feed.feed_keys (like ocsp_internal.feed_keys including all);
-- Nothing may raise an error under the apply worker. Of the key sets all columns are the
-- identity: they have no key here.
alter table ocsp_internal.segment drop constraint segment_number_check, drop constraint segment_first_check, drop constraint segment_check,
  drop constraint segment_hash_check, drop constraint segment_note_hash_check, drop constraint segment_epoch_last_key,
  alter first drop not null, alter last drop not null, alter hash drop not null, alter note drop not null, alter note_hash drop not null,
  alter body drop not null, alter snapshot_required drop not null, alter sealed_at drop not null;
alter table ocsp_internal.feed_checkpoint drop constraint feed_checkpoint_id_check, alter epoch drop not null, alter number drop not null,
  alter position drop not null, alter as_of drop not null, alter note drop not null;
alter table ocsp_internal.feed_keys drop column hash, drop constraint feed_keys_number_check, alter number drop not null, alter note drop not null;

-- What a site that follows the signed feed keeps beside its verified files.

-- The seal that the copy in the tables stands on: the next segment continues it.
create table ocsp_internal.feed_anchor (
  id        smallint primary key check (id = 1),
  epoch     bigint not null,
  number    bigint not null,
  hash      bytea not null check (octet_length(hash) = 32),
  note_hash bytea not null check (octet_length(note_hash) = 32)
);

-- Two signed statements that contradict each other, for people to decide on. They count
-- while the newest key set admits both.
create table ocsp_internal.feed_fork (
  id     bigint generated always as identity primary key,
  at     timestamptz not null default clock_timestamp(),
  source text not null,
  why    text not null,
  ours   bytea not null,
  theirs bytea not null,
  settled timestamptz  -- the master said that two persons have looked into it
);
-- What is shown against this site's own history counts once, however that goes on.
create unique index feed_fork_once on ocsp_internal.feed_fork (sha256(theirs));

reset role;

-- PUBLIC has no right to anything of ours: rights.txt lists the rights of each role.
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal, ocsp_feed from public;
revoke all on all sequences in schema public, ocsp_internal from public;
