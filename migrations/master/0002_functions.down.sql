drop publication ocspfleet;
drop function head_init, heartbeat, note, issuer_add, certificate_issue, certificate_revoke, certificate_import,
  responder_add, responder_certificate_add, responder_revoke;
