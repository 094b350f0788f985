package oauthtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A running is an http.Server that is serving.
type running struct {
	srv     *http.Server
	closing context.CancelFunc // ends what outlives its client
	done    chan struct{}
	conns   sync.WaitGroup
}

// run serves h on l until Close. s.mu is held.
func (s *Server) run(l net.Listener, h http.Handler) {
	ctx, cancel := context.WithCancel(context.Background())
	run := &running{done: make(chan struct{}), closing: cancel}
	run.srv = &http.Server{
		Handler: h,
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(ctx, closingKey{}, ctx)
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if p, ok := c.(*pipeConn); ok {
				ctx = context.WithValue(ctx, schemeKey{}, p.scheme)
			}
			return ctx
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			s.mu.Lock()
			defer s.mu.Unlock()
			switch state {
			case http.StateNew:
				run.conns.Add(1)
				s.conns[c] = struct{}{}
				s.counts.Connections++
			case http.StateClosed:
				delete(s.conns, c)
				run.conns.Done()
			}
		},
		// Only HTTP/1.1: there, a fault of the connection is a fault of one request.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	s.running = append(s.running, run)
	go func() {
		defer close(run.done)
		run.srv.Serve(l) // Serve returns when Close closes l.
	}()
}

// Start listens on 127.0.0.1, on a free port or, after Close, on the same port as before, and
// serves plain http. URL and its like return that address from now on.
func (s *Server) Start() error { return s.listen(false) }

// StartTLS is Start with https. Clients have to trust CertPool.
func (s *Server) StartTLS() error { return s.listen(true) }

func (s *Server) listen(secure bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listening {
		return errors.New("oauthtest: the server is already started")
	}
	scheme := "http://"
	if secure {
		scheme = "https://"
		if s.cert == nil {
			cert, err := selfSigned()
			if err != nil {
				return err
			}
			s.cert = cert
		}
	}
	addr := "127.0.0.1:0"
	if _, old, ok := strings.Cut(s.base, "://"); ok {
		addr = old
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s.base = scheme + l.Addr().String()
	s.listening = true
	l = &downListener{l, s}
	if secure {
		asks := tls.NoClientCert
		if s.cfg.ClientCertificates != nil {
			asks = tls.RequestClientCert
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*s.cert}, ClientAuth: asks})
	}
	s.run(l, s.Handler())
	return nil
}

// Close ends all listeners and connections, over TCP and in memory, and returns when no
// goroutine of the server is left. Tokens, counts and faults stay, and Start, RoundTripper and
// Direct may be called again. Transports from before stay refused.
func (s *Server) Close() {
	s.mu.Lock()
	stopping := s.running
	s.running, s.memory, s.listening = nil, nil, false
	s.mu.Unlock()
	for _, run := range stopping {
		run.closing()
		run.srv.Close()
		<-run.done
		run.srv.Close() // what was being accepted meanwhile
		run.conns.Wait()
	}
}

// Down begins an outage: until Up, open connections are cut, and new ones are refused or, over
// TCP, reset. The address stays taken, so that nobody else can get it.
func (s *Server) Down() {
	s.mu.Lock()
	s.down = true
	cut := make([]net.Conn, 0, len(s.conns))
	for c := range s.conns {
		cut = append(cut, c)
	}
	s.mu.Unlock()
	for _, c := range cut {
		reset(c)
	}
}

// Up ends Down.
func (s *Server) Up() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = false
}

// A downListener resets connections while the server is down.
type downListener struct {
	net.Listener
	s *Server
}

func (l *downListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || !l.s.refuses() {
			return c, err
		}
		reset(c)
	}
}

func reset(c net.Conn) {
	under := c
	if t, ok := under.(*tls.Conn); ok {
		under = t.NetConn()
	}
	if t, ok := under.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	under.Close()
}

// CertPool returns a pool that trusts the certificate of StartTLS, which must have been called.
func (s *Server) CertPool() *x509.CertPool {
	s.mu.Lock()
	defer s.mu.Unlock()
	pool := x509.NewCertPool()
	if s.cert != nil {
		pool.AddCert(s.cert.Leaf)
	}
	return pool
}

func selfSigned() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(1, 0, 0),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:              []string{"localhost"},
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
