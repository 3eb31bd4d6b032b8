package pull

import (
	"context"
	"errors"

	"ocspfleet/sync/feedhttp"
)

// recordAccess notes whether the master lets this site in. A peer's answer does not count, since
// its operator could stop the other sites.
func (p *Puller) recordAccess(ctx context.Context, from *feedhttp.Client, err error) {
	if from.Master() {
		p.access.Record(ctx, err, errors.Is(err, feedhttp.ErrAccessDenied))
	}
}
