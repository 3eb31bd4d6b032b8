package doctor

import (
	"context"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
)

// serials warns when a CA without a network will run out of serials, while it can still make
// more. Such a CA has certificates that were planned ahead; a CA with its key at hand makes
// each serial when it is needed.
func (m Master) serials(ctx context.Context, f *results, roster []masterdb.Responder) {
	const rights = "use a login of group ocsp_operator"
	issuers, err := m.Store.Issuers(ctx)
	if err != nil {
		return // reported by issuers
	}
	planned, err := m.Store.PlannedCertificates(ctx)
	if err != nil {
		f.warn("serials", rights, "not looked at: %v", err)
		return
	}
	ahead := map[db.IssuerID]bool{}
	for _, p := range planned {
		ahead[p.IssuerID] = ahead[p.IssuerID] || p.NotBefore.After(m.Now())
	}
	type key struct {
		site string
		hash [32]byte
	}
	keys := map[db.IssuerID]map[key]bool{}
	for _, site := range roster {
		for _, c := range site.Certificates {
			if site.State != db.ResponderActive || c.Status.Revoked || !c.Status.NotAfter.After(m.Now()) {
				continue
			}
			if keys[c.IssuerID] == nil {
				keys[c.IssuerID] = map[key]bool{}
			}
			keys[c.IssuerID][key{site.Name, c.KeyHash}] = true
		}
	}
	for _, i := range issuers {
		if !ahead[i.ID] {
			continue
		}
		switch spare, err := m.Store.SpareSerials(ctx, i.ID); {
		case err != nil:
			f.warn("serials "+i.Name, rights, "not looked at: %v", err)
		case spare < int64(len(keys[i.ID])):
			f.warn("serials "+i.Name, "at the CA ocspctl ca-sign serials --issuer "+i.Name+" --count N --out FILE --apply, here ocspctl responder serials FILE --apply",
				"%d are left in its pool, and one renewal of all sites takes %d", spare, len(keys[i.ID]))
		}
	}
}
