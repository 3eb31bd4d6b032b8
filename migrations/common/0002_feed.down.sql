drop table snapshot_chunk, snapshot, feed_keys, feed_checkpoint, segment;
