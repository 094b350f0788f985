package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

const (
	tokenLife = 30 * time.Second
	renewal   = 500 * time.Millisecond // when the provider asks for the next token
	interval  = 50 * time.Millisecond  // between the calls of a robot for a user
	patience  = time.Minute            // More means that something is broken, on any machine.
)

// A demo is a provider with an API, and the robots that use it.
type demo struct {
	out      io.Writer
	provider *oauthtest.Server
	tally    *tally
}

// demonstrate shows robots whose keys are replaced while they work. It keeps everything in dir.
func demonstrate(ctx context.Context, dir string, out io.Writer) error {
	old, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	newer, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	platform, err3 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	d := &demo{out: out, tally: newTally(io.Discard)}
	d.provider = oauthtest.New(oauthtest.Config{
		ClientID: "robot", AuthStyle: oauthtest.AuthPrivateKey, ClientKeys: []crypto.PublicKey{old.Public()},
		AccessTTL: tokenLife, Latency: 20 * time.Millisecond,
	})
	if err := d.provider.Start(); err != nil {
		return err
	}
	defer d.provider.Close()
	soon := oauthtest.Edit(func(answer map[string]any) { answer["refresh_in"] = renewal.Seconds() })
	d.provider.Fault("/token", 0, soon)
	fmt.Fprintf(out, "A provider and an API run inside this program, at %s. The provider knows the robot\n"+
		"by its public key, accepts each of its statements once, and asks for a new token every %v.\n", d.provider.URL(), renewal)

	o := options{issuer: d.provider.URL(), clientID: d.provider.ClientID(), api: d.provider.APIURL(), dir: dir,
		users: []string{"ann", "bob", "eve"}, keyFile: filepath.Join(dir, "key.pem")}
	if err := writeKey(o.keyFile, old); err != nil {
		return err
	}
	err := d.robots(ctx, o, func(ctx context.Context) error {
		d.title("1  Two robots work, each for itself and for ann, bob and eve")
		d.text("A token is requested by one of them, and used by both.")
		if err := d.renewals(ctx, 3, o.users); err != nil {
			return err
		}
		d.title("2  The key is replaced while they work")
		d.text("The provider gets to know the new key, the file is replaced, and then the provider forgets the old key.")
		d.provider.SetClientKeys(old.Public(), newer.Public())
		if err := writeKey(o.keyFile, newer); err != nil {
			return err
		}
		if err := d.renewals(ctx, 2, o.users); err != nil { // Then nobody signs with the old key any more.
			return err
		}
		d.provider.SetClientKeys(newer.Public())
		return d.renewals(ctx, 2, o.users)
	})
	if err != nil {
		return err
	}

	o.keyFile, o.tokenFile, o.users = "", filepath.Join(dir, "platform-token"), nil
	issue := func() error { return writePlatformToken(ctx, o, platform) }
	if err := issue(); err != nil {
		return err
	}
	d.provider.SetClientKeys(platform.Public())
	d.provider.Heal()
	d.provider.Fault("/token", 0, func(endpoint http.Handler) http.Handler {
		return soon(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := issue(); err != nil { // The token that has come with r is used up.
				panic(err)
			}
			endpoint.ServeHTTP(w, r)
		}))
	})
	err = d.robots(ctx, o, func(ctx context.Context) error {
		d.title("3  Two robots have no key: the platform says who they are")
		d.text("Its token is in a file, and is replaced whenever it was used.")
		return d.renewals(ctx, 3, nil)
	})
	if err != nil {
		return err
	}

	seen := d.provider.Counts()
	d.title("What the provider has seen")
	d.text("%d token requests, %d statements of which %d were repeated", seen.TokenRequests, seen.Assertions, seen.RepeatedAssertions)
	if d.tally.requested != seen.TokenRequests {
		return fmt.Errorf("%d tokens took %d requests", d.tally.requested, seen.TokenRequests)
	}
	return nil
}

func (d *demo) title(text string) { fmt.Fprintf(d.out, "\n%s\n", text) }

func (d *demo) text(format string, args ...any) { fmt.Fprintf(d.out, "   "+format+"\n", args...) }

// robots has two robots work while f runs.
func (d *demo) robots(ctx context.Context, o options, f func(ctx context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var two sync.WaitGroup
	var errs [2]error
	for i := range errs {
		r, err := newRobot(ctx, o, d.tally.event)
		if err != nil {
			stop()
			two.Wait()
			return err
		}
		two.Go(func() { errs[i] = r.work(ctx, o.users, interval, d.answered) })
	}
	err := f(ctx)
	stop()
	two.Wait()
	return errors.Join(err, errs[0], errs[1])
}

// answered checks whose token the API has got.
func (d *demo) answered(user string, answer []byte, err error) {
	var seen oauthtest.Echo
	if err == nil {
		err = json.Unmarshal(answer, &seen)
	}
	if want := user; err == nil {
		if user == "" {
			want = d.provider.ClientID()
		}
		if seen.Account != want {
			err = fmt.Errorf("the API took it for %q", seen.Account)
		}
	}
	d.tally.call(user, err)
}

// renewals waits until the robot and the users have got so many new tokens, and tells what was
// done meanwhile.
func (d *demo) renewals(ctx context.Context, n uint64, users []string) error {
	users = append([]string{""}, users...)
	before := d.tally.generations()
	for begun := time.Now(); ; pause(ctx, 10*time.Millisecond) {
		missing := 0
		for now, i := d.tally.generations(), 0; i < len(users); i++ {
			if now[users[i]] < before[users[i]]+n {
				missing++
			}
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case missing == 0:
			d.text("%v", d.tally)
			return d.tally.check()
		case time.Since(begun) > patience:
			return fmt.Errorf("waited in vain for the tokens of %d users; %v", missing, d.tally)
		}
	}
}

// writeKey replaces a key file, as whoever rotates keys should: in one step.
func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return replace(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// writePlatformToken does what a platform does: it says who a program is.
func writePlatformToken(ctx context.Context, o options, key *ecdsa.PrivateKey) error {
	platform := &clientauth.PrivateKey{Key: func(context.Context) (*clientauth.Key, error) { return &clientauth.Key{Signer: key}, nil }}
	r := &endpoint.AuthRequest{ClientID: o.clientID, Issuer: o.issuer, Now: time.Now(), Form: url.Values{}}
	if err := platform.Authenticate(ctx, r); err != nil {
		return err
	}
	return replace(o.tokenFile, []byte(r.Form.Get("client_assertion")))
}

func replace(path string, content []byte) error {
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
