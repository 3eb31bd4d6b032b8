package front

import (
	"container/list"
	"log/slog"
	"net/netip"
)

// state is the state of a connection.
type state int

const (
	halfOpen state = iota // no whole request has arrived yet
	idle                  // it was answered and may send another request
	working               // a request is being answered
	states
)

func (s state) String() string { return [states]string{"half_open", "idle", "working"}[s] }

// cut ends a connection, or a request in it, that is no longer counted. It must be called
// without mu.
type cut func()

func (c cut) now() {
	if c != nil {
		c()
	}
}

// admit counts a new connection. It closes the longest waiting one, or waits for room, when
// there is none; it returns false when the listener has been closed.
func (f *Front) admit(c *conn) bool {
	f.mu.Lock()
	var oldest cut
	for f.open >= f.cfg.Max && !f.closed {
		if first := f.waiting.Front(); first != nil {
			oldest = f.drop(first.Value.(*conn), reasonFull)
		} else {
			f.room.Wait()
		}
	}
	if f.closed {
		f.mu.Unlock()
		oldest.now()
		return false
	}
	f.open++
	f.cfg.Metrics.moved(c.state, 1)
	victim := f.wait(c)
	f.mu.Unlock()
	victim.now()
	if oldest != nil {
		oldest.now()
		f.warn("all connections are taken: the longest waiting are closed for new ones", slog.Int("max_connections", f.cfg.Max))
	}
	return true
}

// moved changes a connection's state, and so its place in the queues. mu is held.
func (f *Front) moved(c *conn, to state) cut {
	if c.gone {
		return nil
	}
	f.leave(c)
	f.cfg.Metrics.moved(c.state, -1)
	c.state = to
	f.cfg.Metrics.moved(to, 1)
	return f.wait(c)
}

// wait puts a waiting connection of a counted client at the end of the queues. If the client
// has one too many, it returns the cut of the longest waiting. mu is held.
func (f *Front) wait(c *conn) cut {
	if c.state == working || !c.client.IsValid() {
		return nil
	}
	if !c.lent { // cutting a proxy's request makes no room
		c.inAll = f.waiting.PushBack(c)
		f.room.Signal()
	}
	if c.state != halfOpen {
		return nil
	}
	queue := f.clients[c.client]
	if queue == nil {
		queue = list.New()
		f.clients[c.client] = queue
	}
	c.inClient = queue.PushBack(c)
	if queue.Len() <= f.cfg.HalfOpen {
		return nil
	}
	return f.drop(queue.Front().Value.(*conn), reasonClient)
}

// leave removes a connection from the queues. mu is held.
func (f *Front) leave(c *conn) {
	if c.inAll != nil {
		f.waiting.Remove(c.inAll)
		c.inAll = nil
	}
	if c.inClient != nil {
		queue := f.clients[c.client]
		queue.Remove(c.inClient)
		c.inClient = nil
		if queue.Len() == 0 {
			delete(f.clients, c.client)
		}
	}
}

// drop stops counting a connection and returns the function that cuts it. mu is held.
func (f *Front) drop(c *conn, reason string) cut {
	f.cfg.Metrics.cut(reason)
	if c.lent { // a proxy would see a cut connection as a fault of this server
		f.leave(c)
		return c.hurry
	}
	f.gone(c)
	return func() { _ = c.Conn.Close() } // its reader gets the error
}

// gone stops counting a connection. mu is held.
func (f *Front) gone(c *conn) {
	if c.gone {
		return
	}
	c.gone = true
	f.leave(c)
	f.cfg.Metrics.moved(c.state, -1)
	f.open--
	f.room.Signal()
}

// name sets the client of a connection; connections of loopback and of the proxies have none.
func (f *Front) name(c *conn, client netip.Addr) {
	f.mu.Lock()
	var victim cut
	if !c.gone {
		f.leave(c)
		c.client = client
		victim = f.wait(c)
	}
	f.mu.Unlock()
	victim.now()
}

// lend counts a half-open request from a trusted proxy for its client, until it has arrived
// whole.
func (f *Front) lend(c *conn, client netip.Addr) {
	if !client.IsValid() {
		return
	}
	f.mu.Lock()
	f.leave(c)
	c.client, c.lent = client, true
	victim := f.moved(c, halfOpen)
	f.mu.Unlock()
	victim.now()
}

// begin records that a request has arrived whole.
func (f *Front) begin(c *conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.own(c)
	c.busy++
	f.moved(c, working) // a working connection is never cut, and causes no cut
}

// end records that the answer to a whole request is written. Over HTTP/1 the connection stays
// working until net/http has sent the answer.
func (f *Front) end(c *conn, protocol int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.busy--
	if protocol == 2 {
		c.multiplexed = true
		if c.busy == 0 {
			f.moved(c, idle)
		}
	}
}

// rest records that a connection is idle.
func (f *Front) rest(c *conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.own(c)
	if c.busy == 0 {
		f.moved(c, idle)
	}
}

// own stops counting a proxy's connection for a client. mu is held.
func (f *Front) own(c *conn) {
	if c.lent {
		f.leave(c)
		c.client, c.lent = netip.Addr{}, false
	}
}

// heard records that octets arrived. On an idle connection they begin a request, except with
// HTTP/2, which sends frames between requests.
func (f *Front) heard(c *conn) {
	f.mu.Lock()
	var victim cut
	if c.state == idle && !c.multiplexed {
		victim = f.moved(c, halfOpen)
	}
	f.mu.Unlock()
	victim.now()
}
