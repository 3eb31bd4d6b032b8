-- The files of the signed feed: what the master has signed, and what comes of that to a
-- site. Immutable segments, the newest checkpoint, key sets, snapshots.
set role ocsp_owner;

create table ocsp_internal.segment (
  epoch             bigint not null,
  number            bigint not null check (number > 0),
  first             bigint not null check (first > 0),
  last              bigint not null check (last >= first),
  hash              bytea not null check (octet_length(hash) = 32),       -- SHA-256 of body
  note              bytea not null,                                       -- the sealing checkpoint, signed
  note_hash         bytea not null check (octet_length(note_hash) = 32),  -- SHA-256 of the note's text
  body              bytea not null,
  snapshot_required boolean not null,                                     -- its changes are too many to be in body
  sealed_at         timestamptz not null default clock_timestamp(),
  primary key (epoch, number),
  unique (epoch, last)
);
alter table ocsp_internal.segment alter body set storage external;  -- compressed already

-- The newest signed statement: a seal, or a later confirmation of it.
create table ocsp_internal.feed_checkpoint (
  id       smallint primary key check (id = 1),
  epoch    bigint not null,
  number   bigint not null,
  position bigint not null,
  as_of    timestamptz not null,
  note     bytea not null
);

-- Key sets as the root signed them. The database does not verify the number: a reader
-- takes the highest set whose signature it has verified, and ignores the others.
create table ocsp_internal.feed_keys (
  number bigint not null check (number > 0),
  note   bytea not null,
  hash   bytea primary key generated always as (sha256(note)) stored
);

-- Of two of one position the later one counts: its key is believed.
create table ocsp_internal.snapshot (
  id       bigint generated always as identity primary key,
  epoch    bigint not null,
  position bigint not null,
  note     bytea not null,  -- the manifest, signed
  octets   bigint not null,
  made_at  timestamptz not null default clock_timestamp()
);
create index snapshot_place on ocsp_internal.snapshot (epoch, position, id);

create table ocsp_internal.snapshot_chunk (
  snapshot bigint not null,
  i        int not null,
  body     bytea not null,
  primary key (snapshot, i)
);
alter table ocsp_internal.snapshot_chunk alter body set storage external;

reset role;

-- PUBLIC has no right to anything of ours: rights.txt lists the rights of each role.
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
