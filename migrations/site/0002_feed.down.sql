drop table feed_fork, feed_anchor, snapshot_chunk, snapshot, feed_keys, feed_checkpoint, segment;
