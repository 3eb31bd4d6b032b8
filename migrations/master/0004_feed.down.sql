revoke select on change_body from ocsp_publisher;
drop table snapshot_chunk, snapshot, feed_keys, feed_checkpoint, segment;
drop function segment_guard();
