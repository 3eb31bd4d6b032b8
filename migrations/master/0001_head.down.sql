alter table certificate drop constraint certificate_revoked_in_future;
drop trigger guard on certificate;
drop trigger guard on issuer;
drop trigger guard on responder_certificate;
drop trigger guard on correction;
drop function audit_canonical(audit);
drop table responder_key, responder, audit, heartbeat cascade;
drop view change;
drop table change_tx, change_note, change_body cascade;
do $$
declare t text; e text;
begin
  foreach t in array array['certificate', 'issuer', 'responder_certificate', 'correction'] loop
    foreach e in array array['inserted', 'updated', 'deleted'] loop
      execute format('drop trigger %s on %I', e, t);
      execute format('drop function %s_%s()', t, e);
    end loop;
    execute format('drop trigger no_truncate on %I', t);
  end loop;
end $$;
drop trigger no_truncate on feed_head;
alter table correction drop column xid;
drop function correction_guard(), correctable(int, bytea), refuse_truncate(), refuse_key_update(), certificate_guard(), refuse_isolation(), audit_guard(), audit_noted(), head_take();
