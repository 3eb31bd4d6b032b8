package masterdb

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

const (
	// paceAhead is how many transactions of an import may be on their way to the sites: two of
	// 5,000 rows are applied in 0.1 to 0.4 s, and a revocation waits behind no more.
	paceAhead = 2
	// paceLook is how often the positions of the sites are read.
	paceLook = 10 * time.Millisecond
	// pacePatience is how long a site may apply nothing before the rest of the import stops
	// waiting for the sites: such a site is dead or stuck, and must not delay the others.
	pacePatience = 20 * time.Second
	// clientLag is how long a site that follows the feed may lack something; then the import stops
	// waiting for that site, until it keeps up again.
	clientLag = 10 * time.Second
	// clientFresh is the greatest time since the last request of a site that follows the feed, for
	// the import to wait for it from the start: the site asks every 75 s while nothing happens.
	clientFresh = 90 * time.Second
	// clientNear is how many changes it may lack then. An import does not wait for a site that
	// catches up after an outage.
	clientNear = 50_000
)

// Pace keeps a bulk writer from getting ahead of the sites: later changes wait behind it at each
// of them.
type Pace struct {
	pool    *pg.Pool
	marks   []paceMark // after the last transactions, oldest first
	gone    bool       // a replica did not move: no more waiting for replicas
	clients paceClients
}

// paceMark is a position of the master.
type paceMark struct{ wal, position int64 }

// NewPace returns the pace for one bulk writer, which calls Wait before each of
// its transactions. Not safe for concurrent use.
func (s *DB) NewPace() *Pace { return &Pace{pool: s.pool} }

// Wait returns when every site that follows has applied all but the last few of the transactions
// before. It does not wait for sites that are away.
func (p *Pace) Wait(ctx context.Context) error {
	mark, err := p.mark(ctx)
	if err != nil {
		return err
	}
	p.marks = append(p.marks, mark)
	var target paceMark // at the first transactions there is no target, but the followers are read
	if len(p.marks) > paceAhead {
		target = p.marks[len(p.marks)-paceAhead]
		p.marks = append(p.marks[:0], p.marks[len(p.marks)-paceAhead:]...)
	}
	tick := time.NewTicker(paceLook)
	defer tick.Stop()
	last, moved := int64(-1), time.Now()
	for {
		wrote, clients, err := p.read(ctx)
		if err != nil {
			return err
		}
		behind := p.clients.behind(clients, mark.position, target.position, time.Now())
		if wrote != nil && *wrote < target.wal && !p.gone {
			if *wrote != last {
				last, moved = *wrote, time.Now()
			}
			p.gone = time.Since(moved) > pacePatience
			behind = behind || !p.gone
		}
		if !behind {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (p *Pace) mark(ctx context.Context) (paceMark, error) {
	var m paceMark
	err := p.pool.ReadBatch(ctx, func(read *pg.Batch) error {
		read.Row(func(row pgx.Row) error { return row.Scan(&m.wal, &m.position) },
			"select (pg_current_wal_lsn() - '0/0')::bigint, coalesce((select position from feed_head), 0)")
		return nil
	})
	if err != nil {
		return m, fmt.Errorf("asking how far the master is: %w", pg.Plain(err))
	}
	return m, nil
}

// paceClient is the master's note on a site that follows the feed.
type paceClient struct {
	Site     string
	Position int64
	Age      time.Duration // since its last request
}

// read reads the positions of the sites: the last of those that replicate, nil if there are none,
// and those that follow the feed.
func (p *Pace) read(ctx context.Context) (wrote *int64, clients []paceClient, err error) {
	err = p.pool.ReadBatch(ctx, func(read *pg.Batch) error {
		read.Row(func(row pgx.Row) error { return row.Scan(&wrote) }, "select replicas_wrote()")
		read.Rows(func(rows pgx.Rows) (err error) {
			clients, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (paceClient, error) {
				var g paceClient
				var age float64
				err := row.Scan(&g.Site, &g.Position, &age)
				g.Age = time.Duration(age * float64(time.Second))
				return g, err
			})
			return err
		}, "select site, position, extract(epoch from clock_timestamp() - seen_at)::float8 from feed_client")
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("asking how far the sites are: %w", pg.Plain(err))
	}
	return wrote, clients, nil
}

// paceClients are the sites that follow the feed, as a bulk writer knows them. A site reports its
// own position: a false one delays an import, but not for long.
type paceClients struct {
	known map[string]*knownClient
	began time.Time
	last  time.Time // time of the reading before
}

type knownClient struct {
	position int64
	reached  time.Time     // when it last had all changes
	awaited  bool          // it keeps up, as far as can be seen
	waited   time.Duration // total time of waiting for it
}

// behind says whether an awaited site has not reached the target, at time now of this machine.
// Awaited are the sites that came lately and lacked little when they were seen first, and those
// that move and have reached a target since; until they miss one for clientLag, or have taken four
// fifths of the time.
func (p *paceClients) behind(clients []paceClient, head, target int64, now time.Time) bool {
	if p.known == nil {
		*p = paceClients{known: map[string]*knownClient{}, began: now, last: now}
	}
	passed, behind := now.Sub(p.last), false
	p.last = now
	for _, g := range clients {
		known := p.known[g.Site]
		if known == nil {
			known = &knownClient{position: g.Position, reached: now, awaited: g.Age <= clientFresh && head-g.Position <= clientNear}
			p.known[g.Site] = known
		}
		switch {
		case g.Position >= target:
			known.awaited = known.awaited || g.Position != known.position
			known.reached = now
		case known.awaited:
			known.waited += passed
			known.awaited = now.Sub(known.reached) <= clientLag && known.waited <= clientLag+now.Sub(p.began)*4/5
			behind = behind || known.awaited
		}
		known.position = g.Position
	}
	return behind
}
