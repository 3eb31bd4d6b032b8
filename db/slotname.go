package db

import (
	"fmt"
	"regexp"
	"strings"
)

// The subscriptions of a native site, each with the name of the master's publication: one for the
// rows, another for the signed files, so that files delay no status.
const (
	SubscriptionName      = "ocspfleet"
	FilesSubscriptionName = "ocspfleet_files"
)

// Slot is a replication slot of one site at the master.
type Slot struct {
	Name     string
	Active   bool   // a session streams from it
	Status   string // wal_status: reserved, extended, unreserved (about to be lost), lost
	LagBytes int64  // WAL that the master keeps for it
	Form     int    // the newest form of signed notes that the site reads, of SiteSlots; 0: unknown
}

// MaxSiteLen bounds a site's name, so that its slots' names fit into 63 octets:
// "ocsp_", the name, "_", 13 digits.
const MaxSiteLen = 44

// SlotPrefix returns the beginning of the names of a site's slots; only digits follow. It is
// unambiguous, since site names have no underscore: site-a's slots are ocsp_site_a_1790000000000,
// and those of site-a-1 continue with an underscore.
func SlotPrefix(site string) string { return "ocsp_" + strings.ReplaceAll(site, "-", "_") + "_" }

// IsFilesSlot says whether a slot of a site is for the signed files: its number begins with 0. The
// number of a slot for the rows is a time.
func IsFilesSlot(slot string) bool {
	return strings.HasPrefix(slot[strings.LastIndexByte(slot, '_')+1:], "0")
}

var siteName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// CheckSite says what is wrong with the name of a site: it must be valid as a DNS label and as a
// file name.
func CheckSite(name string) error {
	if !siteName.MatchString(name) {
		return fmt.Errorf("site %q: want 1 to 63 lower-case letters, digits and dashes, no dash first", name)
	}
	return nil
}
