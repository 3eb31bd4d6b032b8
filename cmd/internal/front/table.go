package front

import (
	"container/list"
	"log/slog"
	"net/netip"
)

// state is what a connection does.
type state int

const (
	halfOpen state = iota // no whole request has come yet
	idle                  // it had its answer and may ask again
	working               // a request is worked on
	states
)

func (s state) String() string { return [states]string{"half_open", "idle", "working"}[s] }

// cut ends a connection, or a request in one, that was counted out already. It is
// called when mu is free.
type cut func()

func (c cut) now() {
	if c != nil {
		c()
	}
}

// admit takes a new connection in and waits for room where there is none: false when
// the listener has been closed.
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

// wait puts a connection that waits, and is somebody's, behind all others. It returns
// the client's longest waiting, if this is one too many. mu is held.
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

// leave takes a connection out of the queues. mu is held.
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

// drop counts a connection out; what it returns cuts it. mu is held.
func (f *Front) drop(c *conn, reason string) cut {
	f.cfg.Metrics.cut(reason)
	if c.lent { // a proxy would take a cut connection for a fault of this server
		f.leave(c)
		return c.hurry
	}
	f.gone(c)
	return func() { _ = c.Conn.Close() } // its reader gets the error
}

// gone counts a connection out. mu is held.
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

// name says whose a connection is; nobody's are those of loopback and of the proxies.
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

// lend counts the half-open request that a trusted proxy passes on as its client's,
// until it has come whole.
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

// begin says that a request has come whole.
func (f *Front) begin(c *conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.own(c)
	c.busy++
	f.moved(c, working) // who works is nobody's victim and makes none
}

// end says that the answer to a request that came whole is written; over HTTP/1 the
// connection is worked on until net/http has sent it.
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

// rest says that a connection has nothing to do.
func (f *Front) rest(c *conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.own(c)
	if c.busy == 0 {
		f.moved(c, idle)
	}
}

// own gives a proxy's connection back to it. mu is held.
func (f *Front) own(c *conn) {
	if c.lent {
		f.leave(c)
		c.client, c.lent = netip.Addr{}, false
	}
}

// heard says that octets came. On an idle connection they begin a request, but not
// with HTTP/2, which says much between requests.
func (f *Front) heard(c *conn) {
	f.mu.Lock()
	var victim cut
	if c.state == idle && !c.multiplexed {
		victim = f.moved(c, halfOpen)
	}
	f.mu.Unlock()
	victim.now()
}
