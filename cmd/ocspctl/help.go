package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// longs tells of each verb what its one line cannot: what it does and does not
// do, who may, and what to do next. A verb that brings its own text keeps it.
var longs = map[string]string{
	"issuer add": `An issuer is one CA key under one name. Its policy travels with it, so that every
site answers alike. A site serves it once ocspd's configuration pins it, too.`,
	"issuer set": `Shows what would change, old beside new, and what clients, sites and staff will notice
of it; what the rules forbid is refused: the bounds of issuer add, the Baseline
Requirements for profile br (and certificates on hold beside it), another never-issued
than unauthorized for an issuer that was purged. --apply does just that plan, or nothing
if the policy was changed meanwhile. --crl-url stands alone and files a request: another
operator approves it (ocspctl approve), and the CA signs for the new place only once its
own configuration says so. The change travels with the issuer's row: every
site follows within a second, without a restart, and signs each answer anew.`,
	"issuer list": `Shows what the master says of each issuer: its profile, for how long answers
hold, and what is said of serials that were never issued.`,
	"responder add": `Puts the site on the roster and signs one certificate per issuer for its key, with
the CA's key of this configuration (in a token or a file). They travel to the site
as rows; ocspd uses them as soon as they are there. The plan shows the request's
fingerprint, what will be issued, and what the lint says of it: nothing that it
finds at fault is signed. Compare the fingerprint with what the site reads to you
before --apply. Refused are weak keys, keys of other sites or of revoked ones,
requests for another purpose, and a long life for issuers of profile br, whose
responders no client checks. docs/identities.md tells the whole life.`,
	"responder list": `Shows every site with its certificates, revoked and expired ones included.`,
	"responder show": `Shows a site's certificates with the part of their life that is left, what is
planned for an offline CA, and how its replication stands at the master.`,
	"responder renew": `As fleet renew, for one site and at once: for instance after the issuer got a
crl_url. The same key, site and life as the last certificate, whose signature is
checked with the CA's key. A new key needs a new request: responder add.`,
	"responder set": `For a site that moves, or that was enrolled without its addresses. With dns in
ocspctl.yaml the new addresses are published once it answers by them (a minute at
most), then the old ones withdrawn, and last the roster changed: broken off, run it
again. A suspended site is published by responder restore. --feed-pin needs no CA key.`,
	"responder revoke": `Step by step, each of which may be repeated: revokes every unexpired certificate of
the site, superseded and planned ones included, and bans its keys, in one
transaction that no limit holds up; lets a running stream bring the site the news
(an honest one stops by itself); closes its replication login; ends its sessions,
running streams too; drops its slots; takes its addresses out of the DNS (without
dns in ocspctl.yaml it names them for work by hand); issues the CRLs anew. Broken off
anywhere, run it again. A fault of the DNS stops no other step. Every other site answers revoked
for it. Its name and keys never come back. Never the last healthy site without
--force.`,
	"responder suspend": `The half of responder revoke that can be taken back: certificates go on hold, access
is closed, the slot stays. Profile br forbids hold (BR 4.9.13): there the site's
certificates are taken out of the replicated rows, so that it has none to sign with and
stops; their status stays good, and nobody else says anything of it. Its addresses
leave the DNS, but never the last one of a name without --force.`,
	"responder restore": `Releases the site's certificates from hold, gives back what was withheld, and opens
its access; its ocspsyncd comes back by itself, from where it was. Its addresses return
to the names in the DNS that they were taken from, as soon as it answers OCSP requests
by them (a minute at most; if not, run it again). For a new site, too: it puts one that
never stood in the DNS at every name that has addresses of the kind.`,
	"responder leave": `For a partner who stops hosting, and is trusted to delete his key. First its addresses
leave the DNS; then the site must answer until resolvers have forgotten them (the TTL: it
waits 5 minutes at most, else says until when; run it again then); then its TLS key, its
login, sessions and slots are closed, and its keys and name are banned. Its
certificates stay good until they end: revoked, they would spoil the answers that caches
and servers with stapling still give out. Certificates that an offline CA signed ahead
are revoked (cessationOfOperation). Where ocspctl has no zone, or the site no address
there, --withdrawn says that it was done by hand and the TTL is over. Until the TTL is over
responder restore takes it back; what the partner does then: docs/identities.md.`,
	"responder bundle": `For a CA whose key has no network: plans a series of certificates that follow each
other, each with a serial of the CA's pool (responder serials), and writes a file for
ca-sign. The keys of a site are those of its last certificates, one of each kind, or of
the request given with --csr. The bundle tells the CA which keys and certificates are
denied. A site that is revoked loses the certificates of the series, too, signed or not.`,
	"responder serials": `Certificates are planned with these serials and no others, so that nobody at the
master chooses what the CA signs. Serials that are in the pool, or issued, already are
passed over. Needs no CA key.`,
	"responder release": `Run from a timer at the master. Each certificate must be what was planned under its
serial and bear the CA's signature. One that has not begun waits; nobody can use it
before it is released, since sites take certificates from the rows alone.`,
	"ca-sign": `The one piece that touches the CA's key: run it by a user of its own, at the machine
that holds the key, and carry the files. Of the bundle it believes nothing. What it
signs, its own configuration says (issuers.NAME: profile, max_life, crl_url): a bundle
that wants otherwise is refused. Each key must come with a request that it signed, which
is good for one max_life from when it was first shown here, or with a certificate that
this CA signed; neither may be on the deny list, to which a bundle only adds. Each serial
must be of the CA's own pool and is signed once. A CRL must name, for ever, what the
last one named, until it has ended; only a hold may go. What the CA remembers lies in
issuers.NAME.state. Compare the key fingerprints of new sites before --apply.`,
	"ca-sign serials": `Carry the file to the master, as bundles are carried, and give it to responder serials
there: certificates are planned with these serials alone. The CA signs each of them
once, and no others. One for each certificate: eight a month for a site's key and issuer.`,
	"crl issue": `The CRL speaks of the sites' responder certificates alone, and says so by a critical
issuingDistributionPoint equal to the certificates' own. It is put into the issuer's
row and travels with it; every site serves it at /crl/NAME. Its number comes from the
database; an entry stays until one CRL after its certificate's end; nextUpdate lies
beyond the longest outage budget. Exit code 3 when an issuer has a crl_url and its key is
elsewhere; the others' CRLs are issued. responder revoke issues it by itself; run this once
a day besides. The scope comes from this machine's own configuration (issuers.NAME:
crl_url, or crl_scope: all for one of all the issuer's certificates), which the master's
crl_url must equal. What the last CRL named for ever stays until it has ended: the CA
remembers it beside its key (issuers.NAME.state).`,
	"crl show": `Shows number, times and entries of the CRL that each issuer's row holds. Exit code 3
when one is missing, past half of its life, or does not name what is revoked now.`,
	"crl bundle": `For a CA whose key has no network: takes the numbers of a series of CRLs that follow
each other and all name what is revoked now, and writes a file for ca-sign. Eight of
them, one each 3 days, last four weeks. A site that is revoked meanwhile stands in none
of them: draw up a new bundle then, whose CRLs take the place of those that wait.`,
	"crl release": `Run from a timer at the master. Each CRL must say what was planned under its number
and bear the CA's signature. The newest whose time has come is put into the issuer's
row, from where every site serves it. Exit code 3 when it lacks a certificate that was
revoked since, or when less than two still wait: a new bundle must go to the CA.`,
	"fleet renew": `For a timer (deploy/systemd): issues anew what is past half of its life, for each
active site the newest certificate of each kind of key. Site, key and life are taken
from that certificate, whose signature the CA's key must bear, never from a column.
What is refused is named, and so is what has less than a third of its life left
although this ran: exit code 3. So are issuers whose CA key is not in this
configuration, while the others are renewed; --issuer chooses those that are.`,
}

// explain hangs the long texts on the commands.
func explain(root *cobra.Command) {
	eachCommand(root, func(c *cobra.Command) {
		if text, ok := longs[strings.TrimPrefix(c.CommandPath(), root.Name()+" ")]; ok && c.Long == "" {
			c.Long = strings.ToUpper(c.Short[:1]) + c.Short[1:] + ".\n\n" + text
		}
	})
}

// eachCommand calls do for c and all below it.
func eachCommand(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, child := range c.Commands() {
		eachCommand(child, do)
	}
}

// choices are the flags whose values the shell can complete; where a flag's help
// names its values as `a|b|c`, they are taken from there.
var choices = map[string][]string{
	"reason": {
		"unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded",
		"cessationOfOperation", "certificateHold", "privilegeWithdrawn", "aACompromise",
	},
}
