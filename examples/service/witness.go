package main

import (
	"context"
	"net/http"
	"sync"

	"github.com/stayauth/stayauth/transport"
)

// A witness tells the ledger which of the tokens that the provider has issued are certainly in
// the store: what is lost later, the store has lost.
type witness struct {
	url    string
	source func(account string) *transport.Source

	mu      sync.Mutex
	unsaved map[string]bool // accounts
}

func newWitness(url string, source func(account string) *transport.Source) *witness {
	return &witness{url: url, source: source, unsaved: make(map[string]bool)}
}

// see is for SourceConfig.OnEvent.
func (w *witness) see(ctx context.Context, e transport.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	account := e.Key.Account
	switch e.Type {
	case transport.EventUnsaved:
		w.unsaved[account] = true
	case transport.EventRefreshed:
		if !w.unsaved[account] {
			go w.tell(context.WithoutCancel(ctx), account)
		}
	case transport.EventSaved:
		delete(w.unsaved, account)
		go w.tell(context.WithoutCancel(ctx), account)
	case transport.EventAdopted, transport.EventLoginRequired, transport.EventLogin, transport.EventLogout:
		delete(w.unsaved, account)
	}
}

// tell tells that the token in use is saved.
func (w *witness) tell(ctx context.Context, account string) {
	token, err := w.source(account).Token(ctx)
	if err != nil {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, nil)
	if err != nil {
		return
	}
	req.Header.Set("Authorization", "Bearer "+string(token.AccessToken))
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
	}
}
