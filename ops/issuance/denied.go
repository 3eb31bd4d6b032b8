package issuance

import (
	"context"
	"encoding/hex"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
)

// Denied are keys that must not be certified again, and certificates that prove no key.
type Denied struct {
	Keys         [][32]byte
	Certificates []db.Serial
}

// Denied reads what the master denies: the keys of revoked sites, and the permanently revoked
// responder certificates of the issuer.
func (a *Authority) Denied(ctx context.Context, store *masterdb.DB) (d Denied, err error) {
	if d.Keys, err = store.BannedKeys(ctx); err != nil {
		return d, err
	}
	roster, err := store.Responders(ctx)
	for _, row := range rowsOf(roster, a.Issuer.ID) {
		if row.Status.Permanent() {
			d.Certificates = append(d.Certificates, row.Serial)
		}
	}
	return d, err
}

// learn adds what the master denies to the deny list of a CA that runs beside the master.
func (a *Authority) learn(ctx context.Context, store *masterdb.DB) error {
	d, err := a.Denied(ctx, store)
	if err != nil {
		return err
	}
	return a.State.deny(d)
}

// Texts returns keys and serials in hex, in the form of a bundle.
func (d Denied) Texts() (keys, certificates []string) {
	keys, certificates = []string{}, []string{}
	for _, key := range d.Keys {
		keys = append(keys, hex.EncodeToString(key[:]))
	}
	for _, serial := range d.Certificates {
		certificates = append(certificates, serial.String())
	}
	return keys, certificates
}

// denied reads what a bundle denies.
func (b *Bundle) denied() (d Denied, err error) {
	for _, text := range b.DeniedKeys {
		key, err := parseHash(text)
		if err != nil {
			return d, fmt.Errorf("reading denied_keys: %w", err)
		}
		d.Keys = append(d.Keys, key)
	}
	for _, text := range b.DeniedCertificates {
		serial, err := db.ParseSerial(text)
		if err != nil {
			return d, fmt.Errorf("reading denied_certificates: %w", err)
		}
		d.Certificates = append(d.Certificates, serial)
	}
	return d, nil
}
