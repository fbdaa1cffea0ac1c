// Go's WebSocket libraries, in the form that their documentation recommends for many receivers.
//
// -style:
//   - gorilla: WritePreparedMessage, one client after the other; the frame is made once.
//   - coder: Write for each client and message; it has no prepared messages.
//
// The turns are those of bench/floor_server.c. -mode uplink: a goroutine for each client reads its messages by
// ReadMessage (gorilla) or Read (coder).
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
)

// The page that server, load and runner share; layout in net.h.
const (
	ready = 0
	turns = 8
	want  = 16
	stop  = 24
)

type control struct {
	cells *[512]uint64
	fifo  *os.File
}

func openControl(page, fifo string) control {
	file, err := os.OpenFile(page, os.O_RDWR, 0)
	check(err)
	memory, err := syscall.Mmap(int(file.Fd()), 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	check(err)
	pipe, err := os.OpenFile(fifo, os.O_RDWR, 0)
	check(err)
	return control{(*[512]uint64)(unsafe.Pointer(&memory[0])), pipe}
}

func (c control) load(cell int) uint64         { return atomic.LoadUint64(&c.cells[cell]) }
func (c control) store(cell int, value uint64) { atomic.StoreUint64(&c.cells[cell], value) }

func (c control) turnRead(turn uint64) {
	var bytes [64]byte
	for c.load(turns) < turn {
		c.store(want, turn)
		if c.load(turns) >= turn {
			break
		}
		_, err := c.fifo.Read(bytes[:])
		check(err)
	}
	c.store(want, 0)
}

type client interface {
	// One message to this client, and whether it is the first client of the message.
	send(message []byte, prepared *gorilla.PreparedMessage)
}

type gorillaClient struct{ conn *gorilla.Conn }

func (g gorillaClient) send(_ []byte, prepared *gorilla.PreparedMessage) {
	check(g.conn.WritePreparedMessage(prepared))
}

type coderClient struct{ conn *coder.Conn }

func (c coderClient) send(message []byte, _ *gorilla.PreparedMessage) {
	check(c.conn.Write(context.Background(), coder.MessageBinary, message))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func stamped(size int, number uint64) []byte {
	payload := make([]byte, size)
	for at := range payload {
		payload[at] = byte(at % 251)
	}
	var now syscall.Timespec
	_, _, failed := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(unsafe.Pointer(&now)), 0)
	if failed != 0 {
		check(failed)
	}
	binary.LittleEndian.PutUint64(payload, uint64(now.Nano()))
	binary.LittleEndian.PutUint64(payload[8:], number)
	return payload
}

// User and system time of this process, in seconds.
func cpu() (float64, float64) {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return float64(usage.Utime.Nano()) / 1e9, float64(usage.Stime.Nano()) / 1e9
}

func pin(core int) {
	if core < 0 {
		return
	}
	var set [16]uint64
	set[core/64] = 1 << (core % 64)
	for _, thread := range threads() {
		_, _, failed := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, uintptr(thread), unsafe.Sizeof(set),
			uintptr(unsafe.Pointer(&set)))
		if failed != 0 {
			check(failed)
		}
	}
	runtime.GOMAXPROCS(1)
}

func threads() []int {
	entries, err := os.ReadDir("/proc/self/task")
	check(err)
	found := make([]int, len(entries))
	for i, entry := range entries {
		_, err := fmt.Sscan(entry.Name(), &found[i])
		check(err)
	}
	return found
}

// Counts what all clients send: measuring starts after a tenth of the messages, and ends at the last.
type tally struct {
	count, total, first uint64
	started             time.Time
	user, sys           float64
	stop                func()
}

func (t *tally) add() {
	switch atomic.AddUint64(&t.count, 1) {
	case t.first:
		t.user, t.sys = cpu()
		t.started = time.Now()
	case t.total:
		wall := time.Since(t.started).Seconds()
		user, sys := cpu()
		t.stop()
		fmt.Printf("{\"messages\": %d, \"wall_s\": %.6f, \"user_s\": %.6f, \"sys_s\": %.6f}\n",
			t.total-t.first, wall, user-t.user, sys-t.sys)
		os.Exit(0)
	}
}

func main() {
	mode := flag.String("mode", "fanout", "")
	messages := flag.Uint64("messages", 0, "")
	style := flag.String("style", "gorilla", "")
	page := flag.String("control", "", "")
	fifo := flag.String("fifo", "", "")
	count := flag.Int("clients", 1, "")
	size := flag.Int("size", 64, "")
	burst := flag.Int("burst", 1, "")
	window := flag.Int("window", 8, "")
	seconds := flag.Float64("seconds", 0.5, "")
	warmup := flag.Float64("warmup", 0.1, "")
	core := flag.Int("core", -1, "")
	checked := flag.Int("check", 0, "")
	for _, name := range []string{"stalled", "rate", "lead", "port", "loop"} {
		flag.String(name, "", "")
	}
	flag.Parse()
	pin(*core)
	shared := openControl(*page, *fifo)

	uplink := *mode == "uplink"
	counted := &tally{total: *messages, first: max(1, *messages/10), stop: func() { shared.store(stop, 1) }}
	joined := make(chan client, *count)
	upgrader := gorilla.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	handler := func(w http.ResponseWriter, r *http.Request) {
		if *style == "coder" {
			conn, err := coder.Accept(w, r, &coder.AcceptOptions{
				InsecureSkipVerify: true, CompressionMode: coder.CompressionDisabled})
			check(err)
			joined <- coderClient{conn}
			if uplink {
				conn.SetReadLimit(-1)
				for {
					_, _, err := conn.Read(r.Context())
					check(err)
					counted.add()
				}
			}
			<-r.Context().Done()
			return
		}
		conn, err := upgrader.Upgrade(w, r, nil)
		check(err)
		joined <- gorillaClient{conn}
		for uplink {
			_, _, err := conn.ReadMessage()
			check(err)
			counted.add()
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go func() { check(http.Serve(listener, http.HandlerFunc(handler))) }()
	fmt.Printf("{\"port\": %d}\n", listener.Addr().(*net.TCPAddr).Port)
	clients := make([]client, *count)
	for i := range clients {
		clients[i] = <-joined
	}
	if uplink {
		select {}
	}
	for shared.load(ready) < uint64(*count) {
		time.Sleep(2 * time.Millisecond)
	}

	distinct := 1
	if *size >= 32768 {
		distinct = 4
	}
	pool := make([][]byte, distinct)
	for i := range pool {
		pool[i] = stamped(*size, uint64(i))
	}
	duration := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	var turn, first uint64
	var started time.Time
	var user, sys float64
	until := time.Now().Add(duration(*warmup))
	for {
		if !time.Now().Before(until) {
			shared.turnRead(turn)
			if !started.IsZero() {
				break
			}
			first = turn
			user, sys = cpu()
			started = time.Now()
			until = started.Add(duration(*seconds))
		}
		for i := 0; i < *burst; i++ {
			message := pool[turn%uint64(len(pool))]
			if *checked != 0 {
				message = stamped(*size, turn*uint64(*burst)+uint64(i))
			}
			var prepared *gorilla.PreparedMessage
			if *style != "coder" {
				prepared, err = gorilla.NewPreparedMessage(gorilla.BinaryMessage, message)
				check(err)
			}
			for _, one := range clients {
				one.send(message, prepared)
			}
		}
		turn++
		if turn >= uint64(*window) {
			shared.turnRead(turn + 1 - uint64(*window))
		}
	}
	wall := time.Since(started).Seconds()
	userEnd, sysEnd := cpu()
	shared.store(stop, 1)
	fmt.Printf("{\"turns\": %d, \"messages\": %d, \"wall_s\": %.6f, \"user_s\": %.6f, \"sys_s\": %.6f}\n",
		turn-first, (turn-first)*uint64(*burst), wall, userEnd-user, sysEnd-sys)
}
