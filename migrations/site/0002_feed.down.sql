drop table feed_fork, feed_anchor;
