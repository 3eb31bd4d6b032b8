package feed_test

import "ocspfleet/integration/testkit/feedtest"

const (
	origin = feedtest.Origin
	epoch  = feedtest.Epoch
)
