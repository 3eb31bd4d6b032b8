-- Why the master no longer lets this site in; null: it does. A site that is barred
-- may have been revoked without being told: ocspd then says neither good nor unknown.
set role ocsp_owner;

alter table ocsp_internal.site_state add column barred text;

reset role;

-- Nothing of ours is everybody's: rights.txt says what each role may (package migrations).
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
