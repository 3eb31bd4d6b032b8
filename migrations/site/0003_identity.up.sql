-- Why the master no longer lets this site in; null: it does. A site that is barred
-- may have been revoked without being told: ocspd then says neither good nor unknown.
alter table site_state add column barred text;
grant update (barred) on site_state to ocsp_sync;
