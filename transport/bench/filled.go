package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// A login is one of the logins of a pool.
type login struct {
	pool    *transport.Pool
	account string
}

// look finds the login and its token.
func (l login) look() error {
	_, err := l.pool.Source(l.account).Token(context.Background())
	return err
}

// A filled pool has every login in memory.
type filled struct {
	pool     *transport.Pool
	rt       http.RoundTripper
	req      *http.Request
	accounts []string
	other    int               // bytes of each login's tokens, and of its name here
	tokens   map[string]*token // the same, in nothing but a map

	lines []line // as many, each with the place of the next
	at    int
}

// A line is what a processor reads from memory at a time.
type line struct {
	next int
	_    [56]byte
}

type token struct {
	header string
	expiry time.Time
}

func fill(ctx context.Context, n int) (*filled, error) {
	f := &filled{req: newRequest(http.MethodGet, apiURL), accounts: make([]string, n), other: 2*tokenSize + 16 + 16}
	cache, err := tokencache.New(new(nowhere), nil)
	if err != nil {
		return nil, err
	}
	f.pool, err = transport.NewPool(transport.PoolConfig{Size: 2 * n, Source: poolSource(cache)})
	if err != nil {
		return nil, err
	}
	f.rt, err = transport.New(transport.Config{Pool: f.pool, Origins: []string{"https://api.example.com"}, Base: stub{}})
	if err != nil {
		return nil, err
	}
	for i, at := range rand.Perm(n) {
		f.accounts[i] = fmt.Sprintf("account-%08d", at) // 16 bytes
	}
	// Filled in an order other than that of the lookups, so that no two that are looked up
	// in turn lie side by side.
	for _, i := range rand.Perm(n) {
		if _, err := f.pool.Source(f.accounts[i]).Token(ctx); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// fillOthers fills the map, with names of its own, and the lines.
func (f *filled) fillOthers() {
	f.lines = make([]line, len(f.accounts))
	order := rand.Perm(len(f.lines))
	for i, at := range order {
		f.lines[at].next = order[(i+1)%len(order)]
	}
	f.tokens = make(map[string]*token, len(f.accounts))
	expiry := time.Now().Add(time.Hour)
	for _, i := range rand.Perm(len(f.accounts)) {
		f.tokens[strings.Clone(f.accounts[i])] = &token{strings.Clone(accessToken), expiry}
	}
}

// lookInMap finds a token and looks at it.
func (f *filled) lookInMap(account string) error {
	if t := f.tokens[account]; t.expiry.IsZero() || t.header[0] == 0 {
		return errors.New("there is no token")
	}
	return nil
}

// access reads one line. Which one is known when the last has been read.
func (f *filled) access(string) error {
	f.at = f.lines[f.at].next
	return nil
}

// look finds a login and its token.
func (f *filled) look(account string) error { return login{f.pool, account}.look() }

// request sends a request on behalf of the account.
func (f *filled) request(account string) error {
	return call(f.rt, f.req.WithContext(transport.WithAccount(context.Background(), account)))
}

func poolSource(cache *tokencache.Cache) transport.SourceConfig {
	return transport.SourceConfig{
		Cache: cache, Refresher: tokens{}, Logger: quiet,
	}
}

// tokens is a provider that issues tokens of tokenSize to anybody.
type tokens struct{}

func (tokens) Identity() transport.Identity {
	return transport.Identity{Key: tokencache.Key{Issuer: "https://auth.example.com", ClientID: "client"}}
}

func (tokens) Check(*tokencache.Record) error { return nil }

func (tokens) Refresh(context.Context, *tokencache.Record) (*tokencache.Record, error) {
	// Shorter by the "Bearer " that is stored before it.
	return &tokencache.Record{
		AccessToken: tokencache.Secret(strings.Repeat("a", tokenSize-len("Bearer "))), RefreshToken: tokencache.Secret(strings.Repeat("r", tokenSize)),
		TokenType: "Bearer", TokenURL: "https://auth.example.com/token", Scope: strings.Clone("openid profile email"),
		ObtainedAt: time.Now(), Expiry: time.Now().Add(24 * time.Hour),
	}, nil
}

// nowhere is a Store that forgets, so that only the pool is measured.
type nowhere struct{ locks tokencache.Memory }

func (*nowhere) Load(context.Context, string) ([]byte, tokencache.Version, error) {
	return nil, "", tokencache.ErrNotFound
}

func (*nowhere) Save(context.Context, string, []byte, tokencache.Version) (tokencache.Version, error) {
	return "saved", nil
}

func (*nowhere) Delete(context.Context, string, tokencache.Version) error { return nil }

func (s *nowhere) Lock(ctx context.Context, name string) (func() error, error) {
	return s.locks.Lock(ctx, name)
}

func (*nowhere) Confidential() bool { return true }
