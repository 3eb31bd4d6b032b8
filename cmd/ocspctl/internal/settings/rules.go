package settings

import (
	"cmp"

	"ocspfleet/db"
	"ocspfleet/ops/certprofile"
	"ocspfleet/ops/config"
	"ocspfleet/ops/issuance"
)

// Rules returns what the CA agrees to sign.
func Rules(c config.CA) issuance.Rules {
	return issuance.Rules{
		Profile: db.Profile(cmp.Or(c.Profile, string(db.ProfileRevocable))), MaxLife: cmp.Or(c.MaxLife, certprofile.DefaultLife),
		CRLURL: c.CRLURL, AllCertificates: c.CRLScope == config.ScopeAll, Forbidden: c.ForbiddenURLs,
		Country: c.Country, Organization: c.Organization,
	}
}

// Ledger returns the folder with the CA's memory of what it signed.
func Ledger(c config.CA) *issuance.State { return issuance.OpenState(cmp.Or(c.State, c.Key+".state")) }
