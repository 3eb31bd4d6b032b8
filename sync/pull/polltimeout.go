package pull

import "time"

// pollTimeout is how long to wait for a source: at most until a preferred source may be tried
// again. Otherwise two sites that both fell back on each other would wait for each other's news
// long after the master is back.
func (p *Puller) pollTimeout(s *source) time.Duration {
	wait := p.cfg.Wait
	if p.cfg.PreferPeers && !p.access.Denied() {
		return wait // a pair has its own rules for this
	}
	now := p.cfg.Now()
	for i := range p.sources {
		if &p.sources[i] == s {
			break
		}
		wait = min(wait, max(p.sources[i].due.Sub(now), p.cfg.Backoff))
	}
	return wait
}
