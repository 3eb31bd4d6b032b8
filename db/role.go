package db

// Role is a group role; the migrations grant the rights of its members.
type Role string

// The groups a login can be a member of.
const (
	RoleResponder Role = "ocsp_responder" // ocspd: reads the site's database
	RoleSync      Role = "ocsp_sync"      // ocspsyncd at a site: writes the site's copy
	RoleCA        Role = "ocsp_ca"        // the CA's software: issues, revokes, imports
	RoleOperator  Role = "ocsp_operator"  // staff: also issuers and responders
	RolePublisher Role = "ocsp_publisher" // ocspsyncd at the master: heartbeat
	RoleReplica   Role = "ocsp_replica"   // a site at the master: reads the published tables, replicates
)

// LoginKind says whether a login belongs to a person or a program. Only persons make requests and
// approvals, and programs never use up the persons' share of the hourly limit.
type LoginKind string

// The kinds of logins.
const (
	KindPerson  LoginKind = "person"
	KindService LoginKind = "service"
)

// KindOf returns the usual kind of a group's members.
func KindOf(group Role) LoginKind {
	if group == RoleOperator {
		return KindPerson
	}
	return KindService
}

var Roles = []Role{RoleResponder, RoleSync, RoleCA, RoleOperator, RolePublisher, RoleReplica}

// MaxConnections is PostgreSQL's own limit of max_connections.
const MaxConnections = 262143

// Connections is how many connections a login of the group may have at a time. Without a limit one
// stolen password, or one program that leaks connections, blocks all other logins.
func (r Role) Connections() int {
	switch r {
	case RoleReplica:
		return 8 // a subscription, a seed and its slot, two for reading, and their successors while a broken line lingers
	case RoleOperator:
		return 4 // a person: two runs of ocspctl
	case RoleCA:
		return 32 // the CA's software has a pool
	}
	return 16 // a daemon: its pool of 4, one that listens, their successors
}

// ResponderState is the state of a site on the roster.
type ResponderState string

// The states of a site. A revoked one never comes back under its name or key.
const (
	ResponderActive    ResponderState = "active"
	ResponderSuspended ResponderState = "suspended"
	ResponderRevoked   ResponderState = "revoked"
	ResponderLeft      ResponderState = "left" // without revocation: its certificates end by themselves
)
