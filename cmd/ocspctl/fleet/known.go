package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/keyset"
	"ocspfleet/cmd/ocspctl/internal/settings"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/ops/doctor"
	"ocspfleet/ops/issuance"
	"ocspfleet/ops/sites"
)

// masterAway says that the master's database could not be asked.
type masterAway struct {
	cause error
	at    time.Time // of what is known of the sites
}

func (m *masterAway) Error() string { return m.detail() }

func (m *masterAway) detail() string {
	if m == nil {
		return ""
	}
	return fmt.Sprintf("the master is away (%v); the sites were asked that it named at %s", m.cause, cli.Stamp(m.at))
}

// survey asks the sites on the master's roster; if the master is away, those of the last known
// roster, and returns a masterAway.
func survey(ctx context.Context, p *cli.Program, v sites.Surveyor) ([]sites.Status, []doctor.Fork, error) {
	cfg, err := ctl.Load(p)
	if err != nil {
		return nil, nil, err
	}
	store, err := ctl.OpenMaster(ctx, cfg)
	if err == nil {
		defer store.Close()
		var list []sites.Status
		var forks []doctor.Fork
		if list, forks, err = surveyMaster(ctx, p, v, store, cfg); err == nil {
			return list, forks, nil
		}
	}
	if !tables.Away(err) {
		return nil, nil, err
	}
	known, at, keptErr := lastKnown(cfg)
	if keptErr != nil {
		return nil, nil, errors.Join(err, keptErr)
	}
	list, askErr := v.Ask(ctx, known)
	return list, nil, errors.Join(askErr, &masterAway{err, at})
}

func surveyMaster(ctx context.Context, p *cli.Program, v sites.Surveyor, store *masterdb.DB, cfg *settings.Settings) ([]sites.Status, []doctor.Fork, error) {
	known, err := v.Learn(ctx, store)
	if err != nil {
		return nil, nil, err
	}
	if err := keepKnown(cfg, known); err != nil {
		fmt.Fprintf(p.Stderr, "warning: if the master goes away, nobody knows here whom to ask: %v\n", err)
	}
	var forks []doctor.Fork
	if cfg.Feed.Root != "" {
		if forks, err = keyset.Forks(ctx, store, cfg); err != nil {
			return nil, nil, err
		}
		known.Settled(func(site string) bool {
			return slices.ContainsFunc(forks, func(f doctor.Fork) bool { return f.From == site })
		})
	}
	list, err := v.Ask(ctx, known)
	if err != nil {
		return nil, nil, err
	}
	return list, forks, sites.Locate(ctx, store, known.Issuers, list)
}

// knownFile returns the file with the roster of this database: a state folder serves several
// configurations.
func knownFile(c *settings.Settings) (string, error) {
	dir, err := c.StateFolder()
	if err != nil {
		return "", err
	}
	of := sha256.Sum256([]byte(c.Database.DSN))
	return filepath.Join(dir, fmt.Sprintf("roster-%x.json", of[:8])), nil
}

// keepKnown writes the roster if it has changed; otherwise only the file's time shows that the
// master was asked, since --follow asks every 2 s.
func keepKnown(c *settings.Settings, k sites.Known) error {
	file, err := knownFile(c)
	if err != nil {
		return err
	}
	at := k.At
	k.At, k.AsOf = time.Time{}, time.Time{}
	text, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if kept, err := os.ReadFile(file); err != nil || !bytes.Equal(kept, text) {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		if err := issuance.WritePrivate(file, text); err != nil {
			return err
		}
	}
	return os.Chtimes(file, at, at)
}

// lastKnown returns the stored roster, and when the master was asked last. Its At is zero, so that
// it does not count as the master's present answer.
func lastKnown(c *settings.Settings) (k sites.Known, at time.Time, err error) {
	file, err := knownFile(c)
	if err != nil {
		return k, at, err
	}
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return k, at, errors.New("and no roster is kept here: fleet status keeps one each time the master answers")
	case err != nil:
		return k, at, err
	}
	if err := json.Unmarshal(text, &k); err != nil {
		return k, at, fmt.Errorf("reading the roster kept in %s: %w", file, err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return k, at, err
	}
	k.At = time.Time{}
	return k, info.ModTime(), nil
}
