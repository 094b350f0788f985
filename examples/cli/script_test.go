package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/oskeyring"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// The keyring of the system, which is then locked.
func TestKeyring(t *testing.T) {
	keyring := realparts.Keyring(t)
	cmds := map[string]func(*testscript.TestScript, bool, []string){
		"lock": func(*testscript.TestScript, bool, []string) { keyring.Lock() },
		// forget: the keyring is there, and what was in it is not, as after a forgotten password.
		"forget": func(ts *testscript.TestScript, _ bool, _ []string) {
			keyring.Unlock()
			send := func(args ...string) string {
				out, err := keyring.Command("dbus-send", append([]string{"--session", "--print-reply=literal", "--dest=org.freedesktop.secrets"}, args...)...).Output()
				ts.Check(err)
				return string(out)
			}
			items := regexp.MustCompile(`/org/freedesktop/secrets/collection/\w+/\w+`).FindAllString(send("/org/freedesktop/secrets/collection/login",
				"org.freedesktop.DBus.Properties.Get", "string:org.freedesktop.Secret.Collection", "string:Items"), -1)
			if len(items) == 0 {
				ts.Fatalf("the keyring is empty")
			}
			for _, item := range items {
				send(item, "org.freedesktop.Secret.Item.Delete")
			}
		},
	}
	for name, cmd := range scriptCommands {
		cmds[name] = cmd
	}
	testscript.Run(t, testscript.Params{Dir: "testdata/keyring", Setup: setup(users, "keyring", keyring.Env), Cmds: cmds})
}

// A stage is what one script plays on.
type stage struct {
	srv    *oauthtest.Server
	more   []*oauthtest.Server    // whose secrets are not to be seen either
	leaked atomic.Pointer[string] // of a process, while a request was served
}

// users log in at a provider that does not forgive: whoever presents a spent refresh token
// ends the login.
var users = oauthtest.Config{Policy: oauthtest.StrictFamily, Scope: "openid api"}

// setup gives each script a provider.
func setup(provider oauthtest.Config, store string, extra []string) func(*testscript.Env) error {
	return func(env *testscript.Env) error {
		srv := oauthtest.New(provider)
		if err := srv.Start(); err != nil {
			return err
		}
		env.Defer(srv.Close)
		s := &stage{srv: srv}
		env.Values["stage"] = s
		s.calm()
		tmp := filepath.Join(env.WorkDir, "tmp")
		for _, kv := range append([]string{
			"TMPDIR=" + tmp, "DISPLAY=:0", "HOME=" + env.WorkDir, "GORACE=" + noSleep,
			"STAYAUTH_DIR=" + filepath.Join(env.WorkDir, "state"), "STAYAUTH_STORE=" + store,
			"STAYAUTH_CLIENT_SECRET=" + srv.ClientSecret(),
			"URL=" + srv.URL(), "API=" + srv.APIURL(), "ORIGIN=" + srv.APIOrigin(), "CLIENT=" + srv.ClientID(),
		}, extra...) {
			name, value, _ := strings.Cut(kv, "=")
			env.Setenv(name, value)
		}
		env.Setenv("DISPLAY", ":0")
		return os.MkdirAll(tmp, 0o700)
	}
}

// condition is [placed]: the file system tells a directory from its copies.
func condition(dir string) func(string) (bool, error) {
	return func(string) (bool, error) {
		store, err := tokencache.OpenDir(dir)
		if err != nil {
			return false, err
		}
		id, _, err := store.Place(context.Background())
		return id != "", err
	}
}

// calm ends all faults.
func (s *stage) calm() {
	s.srv.Heal()
	s.srv.Fault("/token", 0, s.watch)
	s.srv.Fault("/api", 0, s.watch)
}

// watch looks at the arguments of all processes while a request is served.
func (s *stage) watch(endpoint http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if leak := s.secretIn(strings.Join(processes(), "\n")); leak != "" {
			leak += " in the arguments of a process"
			s.leaked.Store(&leak)
		}
		endpoint.ServeHTTP(w, r)
	})
}

// secretIn returns what kind of secret is in text, "" if there is none.
func (s *stage) secretIn(text string) string {
	secrets := s.srv.Secrets()
	for _, srv := range s.more {
		secrets = append(secrets, srv.Secrets()...)
	}
	for _, secret := range secrets {
		if secret != "" && strings.Contains(text, secret) {
			return "a secret of " + strconv.Itoa(len(secret)) + " characters like " + secret[:3] + "..."
		}
	}
	return ""
}

func stageOf(ts *testscript.TestScript) *stage { return ts.Value("stage").(*stage) }

// scriptCommands are what scripts can do besides the usual.
var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	// exits STATUS COMMAND... runs a command that ends with the status.
	"exits": func(ts *testscript.TestScript, _ bool, args []string) {
		err := ts.Exec(args[1], args[2:]...)
		status := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			status = exit.ExitCode()
		} else {
			ts.Check(err)
		}
		if strconv.Itoa(status) != args[0] {
			ts.Fatalf("exit status %d, want %s", status, args[0])
		}
	},
	// await FILE: a process that the script did not start writes it.
	"await": func(ts *testscript.TestScript, _ bool, args []string) {
		for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
				return
			} else if time.Since(begun) > time.Minute {
				ts.Check(err)
			}
		}
	},
	// provider down|up|busy|broken|calm|slow
	"provider": func(ts *testscript.TestScript, _ bool, args []string) {
		s := stageOf(ts)
		switch args[0] {
		case "down":
			s.srv.Down()
		case "up":
			s.srv.Up()
		case "busy":
			s.srv.Fault("/revoke", 0, oauthtest.Status(503, time.Hour))
		case "broken":
			s.srv.Heal()
			s.srv.Fault("/token", 0, oauthtest.Status(503, 0))
		case "calm":
			s.calm()
		case "slow":
			s.srv.Heal()
			s.srv.Fault("/token", 0, func(endpoint http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					time.Sleep(300 * time.Millisecond)
					endpoint.ServeHTTP(w, r)
				})
			})
		default:
			ts.Fatalf("provider %s?", args[0])
		}
	},
	// rotations N: so many refreshes, and never with a spent refresh token.
	"rotations": func(ts *testscript.TestScript, _ bool, args []string) {
		c := stageOf(ts).srv.Counts()
		if strconv.Itoa(c.Rotations) != args[0] || c.Reuses != 0 {
			ts.Fatalf("%d rotations and %d reuses, want %s and none", c.Rotations, c.Reuses, args[0])
		}
	},
	// alive ACCOUNT: the newest tokens of the account are good at the provider.
	"alive": func(ts *testscript.TestScript, neg bool, args []string) {
		s := stageOf(ts)
		now := s.srv.Current(args[0])
		if s.srv.Valid(now.RefreshToken) == neg || s.srv.Valid(now.AccessToken) == neg {
			ts.Fatalf("the tokens of %s are alive: %t", args[0], neg)
		}
	},
	// another: URL is from now on that of another provider, whose client has the same secret, which
	// the file secret holds.
	"another": func(ts *testscript.TestScript, _ bool, _ []string) {
		s := stageOf(ts)
		other := users
		other.ClientSecret = s.srv.ClientSecret()
		srv := oauthtest.New(other)
		ts.Check(srv.Start())
		ts.Defer(srv.Close)
		s.more = append(s.more, srv)
		ts.Setenv("URL", srv.URL())
		ts.Check(os.WriteFile(ts.MkAbs("secret"), []byte(other.ClientSecret), 0o600))
	},
	// expire: the access tokens of all stored logins have expired.
	"expire": func(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(expire(ts.Getenv("STAYAUTH_DIR"))) },
	// revoke ACCOUNT: an administrator ends the login.
	"revoke": func(ts *testscript.TestScript, _ bool, args []string) {
		s := stageOf(ts)
		s.srv.RevokeFamily(s.srv.Current(args[0]).RefreshToken)
	},
	// given NAME [FILE]: the environment variable holds what is in the file, or nothing.
	"given": func(ts *testscript.TestScript, _ bool, args []string) {
		value := ""
		if len(args) > 1 {
			value = strings.TrimSpace(ts.ReadFile(args[1]))
		}
		ts.Setenv(args[0], value)
	},
	// approve ACCOUNT: the user enters the next code of a device at once.
	"approve": func(ts *testscript.TestScript, _ bool, args []string) {
		s := stageOf(ts)
		s.srv.Fault("/device_authorization", 1, oauthtest.Edit(func(answer map[string]any) {
			answer["interval"] = 1
			s.srv.ApproveDevice(answer["user_code"].(string), args[0])
		}))
	},
	// spoil: all stored logins are damaged.
	"spoil": func(ts *testscript.TestScript, _ bool, _ []string) {
		cache, err := openCache(ts.Getenv("STAYAUTH_DIR"))
		ts.Check(err)
		dir, err := tokencache.OpenDir(filepath.Join(ts.Getenv("STAYAUTH_DIR"), "logins"))
		ts.Check(err)
		for rec, err := range cache.List(context.Background()) {
			ts.Check(err)
			_, version, err := dir.Load(context.Background(), rec.Key.Name())
			ts.Check(err)
			_, err = dir.Save(context.Background(), rec.Key.Name(), []byte("?"), version)
			ts.Check(err)
		}
	},
	// full: when the next refresh is answered, no login can be stored, for a second.
	"full": func(ts *testscript.TestScript, _ bool, _ []string) {
		entries := filepath.Join(ts.Getenv("STAYAUTH_DIR"), "logins", "entries")
		s := stageOf(ts)
		s.srv.Heal()
		s.srv.Fault("/token", 1, func(endpoint http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				os.Rename(entries, entries+".away")
				os.WriteFile(entries, nil, 0o600)
				time.AfterFunc(time.Second, func() {
					os.Remove(entries)
					os.Rename(entries+".away", entries)
				})
				endpoint.ServeHTTP(w, r)
			})
		})
	},
	// noleak [stderr]: no secret in what the last command printed (or only in what it
	// told the user), in any file, or in what other processes could see.
	"noleak": func(ts *testscript.TestScript, neg bool, args []string) {
		leak := stageOf(ts).leak(ts, len(args) == 0)
		if neg && leak == "" {
			ts.Fatalf("there is a secret, and it was not found")
		}
		if !neg && leak != "" {
			ts.Fatalf("%s", leak)
		}
	},
}

// leak returns where there is a secret, "" if there is none.
func (s *stage) leak(ts *testscript.TestScript, stdout bool) string {
	said := ts.ReadFile("stderr")
	if stdout {
		said += ts.ReadFile("stdout")
	}
	if leak := s.secretIn(said); leak != "" {
		return "the terminal shows " + leak
	}
	if leak := s.leaked.Load(); leak != nil {
		return *leak
	}
	found := ""
	ts.Check(filepath.WalkDir(ts.MkAbs("."), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if leak := s.secretIn(string(b)); leak != "" {
			found = path + " has " + leak
		}
		return err
	}))
	return found
}

// expire changes the stored logins in a directory so that their access tokens have
// expired, and leaves everything else as it is.
func expire(dir string) error { return expireIn(dir, -time.Minute) }

// expireIn is expire for access tokens that are good for some time, and to be refreshed.
func expireIn(dir string, left time.Duration) error {
	return edit(dir, func(rec *tokencache.Record) {
		rec.Expiry = time.Now().Add(left)
		if left > 0 {
			rec.RefreshAt = time.Now()
		}
	})
}

// age makes the stored tokens older, which have not expired.
func age(dir string, by time.Duration) error {
	return edit(dir, func(rec *tokencache.Record) { rec.ObtainedAt = rec.ObtainedAt.Add(-by) })
}

// edit changes the stored logins in a directory.
func edit(dir string, change func(*tokencache.Record)) error {
	ctx := context.Background()
	cache, err := openCache(dir)
	if err != nil {
		return err
	}
	for rec, err := range cache.List(ctx) {
		if err != nil {
			return err
		}
		rec, version, err := cache.Load(ctx, rec.Key)
		if err != nil {
			return err
		}
		change(rec)
		if _, err := cache.Save(ctx, rec.Key, rec, version); err != nil {
			return err
		}
	}
	return nil
}

func openCache(dir string) (*tokencache.Cache, error) {
	cache, _, err := oskeyring.Config{
		App: appName, Dir: filepath.Join(dir, "logins"), Accept: []oskeyring.KeyChoice{oskeyring.KeyFile("")},
		Logger: slog.New(slog.DiscardHandler),
	}.Open(context.Background())
	return cache, err
}
