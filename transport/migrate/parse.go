package migrate

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
)

// Parse returns the logins that data holds, without Written, in one of these shapes:
//
//   - a token of golang.org/x/oauth2 as JSON (access_token, refresh_token, expiry), and whatever
//     has the same members, such as the answer of a token endpoint, an entry in the cache of
//     kubelogin (id_token, refresh_token), or a token.json of Google's library for Python
//     (token, refresh_token, token_uri). If it says so, also whose client it is of (client_id),
//     and until when the access token is good (expires_at, expiry_date);
//   - an object of such tokens, whose names are those of accounts;
//   - a file of type "authorized_user", as gcloud writes it;
//   - a kubeconfig whose users have the auth-provider "oidc", in JSON, as
//     "kubectl config view --raw -o json" prints it;
//   - the configuration of rclone, and what "rclone config dump" prints. Remotes without a
//     client_id are left out: they are logins of rclone's own client;
//   - the cache of the Microsoft Authentication Library (MSAL), unencrypted.
//
// Errors show nothing of data but names.
func Parse(data []byte) ([]Login, error) {
	data = bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\ufeff")))
	if len(data) == 0 {
		return nil, errors.New("it is empty")
	}
	if data[0] != '{' {
		if bytes.Contains(data, []byte("oauth_token:")) {
			return nil, errors.New("it is a hosts.yml of gh, whose tokens do not expire: there is nothing to renew; use what gh auth token prints, with package transport/external")
		}
		return parseRclone(data)
	}
	var file map[string]json.RawMessage
	if json.Unmarshal(data, &file) != nil {
		return nil, errors.New("it is no JSON")
	}
	has := func(names ...string) bool { return hasAny(file, names...) }
	switch {
	case has("users"):
		return parseKubeconfig(data)
	case has("RefreshToken", "AccessToken"):
		return parseMSAL(data)
	case has("type"):
		return parseGoogle(data)
	case isToken(file):
		login, err := parseToken(data)
		if err != nil {
			return nil, err
		}
		return []Login{login}, nil
	}
	var accounts map[string]map[string]json.RawMessage
	if json.Unmarshal(data, &accounts) == nil && slices.ContainsFunc(slices.Collect(maps.Values(accounts)), isToken) {
		return parseAccounts(file)
	}
	var remotes map[string]map[string]string
	if json.Unmarshal(data, &remotes) != nil {
		return nil, errUnknown
	}
	return rcloneLogins(remotes)
}

func hasAny(object map[string]json.RawMessage, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return object[name] != nil })
}

// isToken reports whether parseToken is for it.
func isToken(object map[string]json.RawMessage) bool {
	return hasAny(object, "access_token", "refresh_token", "id_token")
}

// parseAccounts leaves out who has logged out, and says what is wrong if that leaves nobody.
func parseAccounts(accounts map[string]json.RawMessage) (logins []Login, wrong error) {
	for _, name := range slices.Sorted(maps.Keys(accounts)) {
		login, err := parseToken(accounts[name])
		if err != nil {
			wrong = cmp.Or(wrong, fmt.Errorf("%.40q: %w", name, err))
			continue
		}
		login.Name = name
		logins = append(logins, login)
	}
	if logins == nil {
		return nil, wrong
	}
	return logins, nil
}

var errUnknown = errors.New("it is of no known shape: read it yourself, and call Import of a Login; kubectl config view --raw -o json prints a kubeconfig as JSON, and rclone config dump what an encrypted rclone.conf holds")

// googleIssuer is where a user of Google has logged in, and googleTokenURL where such a login is
// renewed.
const (
	googleIssuer   = "https://accounts.google.com"
	googleTokenURL = "https://oauth2.googleapis.com/token"
)

func parseGoogle(data []byte) ([]Login, error) {
	var file struct {
		Type         string            `json:"type"`
		ClientID     string            `json:"client_id"`
		ClientSecret tokencache.Secret `json:"client_secret"`
		RefreshToken tokencache.Secret `json:"refresh_token"`
		Universe     string            `json:"universe_domain"`
	}
	switch {
	case json.Unmarshal(data, &file) != nil:
		return nil, errUnknown
	case file.Type == "service_account":
		return nil, fmt.Errorf("it is of type %q, and no login of a user: see GoogleServiceAccount of package grants", file.Type)
	case file.Type != "authorized_user":
		return nil, fmt.Errorf("it is of type %.40q", file.Type)
	case file.ClientID == "" || file.RefreshToken == "":
		return nil, errors.New("client_id or refresh_token is missing")
	case file.Universe != "" && file.Universe != "googleapis.com":
		return nil, fmt.Errorf("it is for %.40q, and not for googleapis.com", file.Universe)
	}
	return []Login{{Issuer: googleIssuer, ClientID: file.ClientID, ClientSecret: file.ClientSecret,
		Tokens: &tokencache.Record{TokenURL: googleTokenURL, RefreshToken: file.RefreshToken}}}, nil
}

// parseKubeconfig reads the users that kubectl itself has logged in.
func parseKubeconfig(data []byte) ([]Login, error) {
	var file struct {
		Users []struct {
			Name string
			User struct {
				Provider struct {
					Name   string
					Config map[string]tokencache.Secret
				} `json:"auth-provider"`
			}
		}
	}
	if json.Unmarshal(data, &file) != nil {
		return nil, errUnknown
	}
	var logins []Login
	for _, u := range file.Users {
		p, c := u.User.Provider, u.User.Provider.Config
		if p.Name != "oidc" || c["refresh-token"] == "" || c["client-id"] == "" || c["idp-issuer-url"] == "" {
			continue
		}
		logins = append(logins, Login{Name: u.Name, Issuer: string(c["idp-issuer-url"]), ClientID: string(c["client-id"]), ClientSecret: c["client-secret"],
			Tokens: &tokencache.Record{RefreshToken: c["refresh-token"], IDToken: c["id-token"]}})
	}
	if logins == nil {
		return nil, errors.New("no user in it has an auth-provider oidc with a refresh token; credential plugins keep theirs elsewhere")
	}
	return logins, nil
}

// parseMSAL reads a cache that all libraries of that name share. The refresh tokens in it are
// for all resources, the access tokens each for one.
func parseMSAL(data []byte) ([]Login, error) {
	var file struct {
		RefreshToken, IDToken, Account map[string]struct {
			User     string            `json:"home_account_id"`
			ClientID string            `json:"client_id"`
			Name     string            `json:"username"`
			Secret   tokencache.Secret `json:"secret"`
		}
	}
	if json.Unmarshal(data, &file) != nil {
		return nil, errUnknown
	}
	var logins []Login
	seen := map[[2]string]bool{}
	for _, entry := range slices.Sorted(maps.Keys(file.RefreshToken)) {
		token := file.RefreshToken[entry]
		login := [2]string{token.User, token.ClientID}
		if token.Secret == "" || token.ClientID == "" || seen[login] {
			continue
		}
		seen[login] = true // Old versions have a token for each set of scopes. All are good.
		l := Login{Name: token.User, ClientID: token.ClientID, Tokens: &tokencache.Record{RefreshToken: token.Secret}}
		for _, account := range file.Account {
			if account.User == token.User && account.Name != "" {
				l.Name = account.Name
			}
		}
		for _, of := range slices.Sorted(maps.Keys(file.IDToken)) {
			if id := file.IDToken[of]; id.User == token.User && id.ClientID == token.ClientID {
				l.Tokens.IDToken = id.Secret
			}
		}
		logins = append(logins, l)
	}
	if logins == nil {
		return nil, errors.New("there is no refresh token in it")
	}
	return logins, nil
}

// parseRclone reads the sections of an INI file.
func parseRclone(data []byte) ([]Login, error) {
	remotes := map[string]map[string]string{}
	var remote map[string]string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		name, value, pair := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[' && line[len(line)-1] == ']':
			remote = map[string]string{}
			remotes[line[1:len(line)-1]] = remote
		case remote == nil || !pair:
			return nil, errUnknown
		default:
			remote[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return rcloneLogins(remotes)
}

func rcloneLogins(remotes map[string]map[string]string) ([]Login, error) {
	var logins []Login
	err := errUnknown
	for _, name := range slices.Sorted(maps.Keys(remotes)) {
		switch remote := remotes[name]; {
		case remote["token"] == "":
		case remote["client_id"] == "":
			err = fmt.Errorf("the remote %.40q has no client_id: it is a login of rclone's own client, which no other program can renew", name)
		default:
			login, wrong := parseToken([]byte(remote["token"]))
			if wrong != nil {
				err = fmt.Errorf("the remote %.40q: %w", name, wrong)
				continue
			}
			login.Name, login.ClientID, login.ClientSecret = name, remote["client_id"], tokencache.Secret(remote["client_secret"])
			logins = append(logins, login)
		}
	}
	if logins == nil {
		return nil, err
	}
	return logins, nil
}
