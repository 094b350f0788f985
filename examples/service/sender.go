package main

import (
	"context"
	"net/http"
	"os"
	"strconv"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/endpoint"
)

// A sender is a process that presents a refresh token. Before that it saves a note that it does
// so, the journal: another one that does not find that note has read what the store was before.
type sender struct {
	process string
	found   string // the process whose note of an earlier request was in the store; "": there was none
}

const processHeader, foundHeader = "Process", "Found-Note-Of"

func senderOf(r *http.Request) sender {
	return sender{process: r.Header.Get(processHeader), found: r.Header.Get(foundHeader)}
}

// A telling Endpoint tells the ledger who the sender is.
type telling struct{ *endpoint.Endpoint }

func newTelling(e *endpoint.Endpoint) telling {
	e.Base = withSender{}
	return telling{e}
}

func (t telling) Refresh(ctx context.Context, current *tokencache.Record) (*tokencache.Record, error) {
	s := sender{process: strconv.Itoa(os.Getpid())}
	if current.Attempt != nil {
		s.found = strconv.Itoa(current.Attempt.PID)
	}
	return t.Endpoint.Refresh(context.WithValue(ctx, senderKey{}, s), current)
}

type senderKey struct{}

// withSender sends requests with the sender in their context.
type withSender struct{}

func (withSender) RoundTrip(req *http.Request) (*http.Response, error) {
	if s, ok := req.Context().Value(senderKey{}).(sender); ok {
		req = req.Clone(req.Context())
		req.Header.Set(processHeader, s.process)
		req.Header.Set(foundHeader, s.found)
	}
	return http.DefaultTransport.RoundTrip(req)
}
