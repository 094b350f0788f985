package login_test

import (
	"context"
	"html/template"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/provider"
)

// A whole web application whose users connect their accounts with GitLab. What it has
// besides is who its users are: signedIn, which asks the session.
func ExampleWeb() {
	ctx := context.Background()
	store, err := tokencache.OpenDir("/var/lib/app/logins") // or pgstore, for several machines
	if err != nil {
		log.Fatal(err)
	}
	cache, err := tokencache.New(store, tokencache.KeyFile("/var/lib/app/key"))
	if err != nil {
		log.Fatal(err)
	}
	p := provider.GitLab("")
	endpoint := p.Endpoint(os.Getenv("CLIENT_ID"), tokencache.Secret(os.Getenv("CLIENT_SECRET")), "read_api")
	pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: cache, Refresher: endpoint}})
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close(ctx)
	go pool.KeepFresh(ctx)
	web, err := login.NewWeb(login.WebConfig{
		Provider: p, Endpoint: endpoint, Pool: pool, Cache: cache, User: signedIn,
		RedirectURL: "https://app.example.com/gitlab/callback",
		Keys:        [][]byte{[]byte(os.Getenv("COOKIE_KEY"))}, // 32 random bytes
	})
	if err != nil {
		log.Fatal(err)
	}
	rt, err := transport.New(transport.Config{Pool: pool, Origins: p.Origins})
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: rt}

	mux := http.NewServeMux()
	mux.HandleFunc("POST /gitlab/connect", web.Connect)
	mux.HandleFunc("/gitlab/callback", web.Callback)
	mux.HandleFunc("POST /gitlab/disconnect", web.Disconnect)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		user, _ := signedIn(r)
		accounts, err := web.Logins(r.Context(), user)
		if err != nil {
			log.Print(err)
		}
		page.Execute(w, accounts)
	})
	mux.HandleFunc("GET /projects", func(w http.ResponseWriter, r *http.Request) {
		user, _ := signedIn(r)
		req, _ := http.NewRequestWithContext(transport.WithAccount(r.Context(), user), "GET", "https://gitlab.com/api/v4/projects?membership=true", nil)
		resp, err := client.Do(req)
		if err == nil {
			defer resp.Body.Close()
			w.Header().Set("Content-Type", "application/json")
			io.Copy(w, resp.Body)
		} else if err := web.Begin(w, r, login.Start{Cause: err, Return: "/projects"}); err != nil {
			http.Error(w, "GitLab cannot be asked now", http.StatusServiceUnavailable)
		}
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", mux))
}

var page = template.Must(template.New("").Parse(`<!DOCTYPE html><title>Accounts</title>
{{range .}}<p>{{.Name}} <form method=post action=/gitlab/disconnect><button>Disconnect</button></form>
{{else}}<form method=post action=/gitlab/connect><button>Connect GitLab</button></form>{{end}}`))

// signedIn is what the application knows of its users.
func signedIn(r *http.Request) (string, error) {
	c, err := r.Cookie("session")
	if err != nil {
		return "", nil
	}
	return sessions[c.Value], nil
}

var sessions = map[string]string{}
