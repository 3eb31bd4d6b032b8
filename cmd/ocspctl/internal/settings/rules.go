package settings

import (
	"cmp"

	"ocspfleet/db"
	"ocspfleet/ops/config"
	"ocspfleet/ops/certprofile"
	"ocspfleet/ops/fleet"
)

// Rules are what the CA agrees to sign.
func Rules(c config.CA) fleet.Rules {
	return fleet.Rules{
		Profile: db.Profile(cmp.Or(c.Profile, string(db.ProfileRevocable))), MaxLife: cmp.Or(c.MaxLife, certprofile.DefaultLife),
		CRLURL: c.CRLURL, AllCertificates: c.CRLScope == config.ScopeAll, Forbidden: c.ForbiddenURLs,
		Country: c.Country, Organization: c.Organization,
	}
}

// Ledger is the folder in which the CA remembers what it signed.
func Ledger(c config.CA) *fleet.State { return fleet.OpenState(cmp.Or(c.State, c.Key+".state")) }
