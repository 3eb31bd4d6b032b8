package pull

import "time"

// pollTimeout is how long a source is listened to: no longer than until one that is
// preferred to it may be tried again. Two sites that fell back on each other would
// else wait for each other's news with the master long back.
func (p *Puller) pollTimeout(s *source) time.Duration {
	wait := p.cfg.Wait
	if p.cfg.PreferPeers && !p.access.Denied() {
		return wait // a pair has its own ways back
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
