package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
)

// ask calls the provider's API in the name of the user. It does not know of tokens.
func (a *app) ask(r *http.Request, u user, label string) (answer string, err error) {
	account := login.PoolAccount(u.id, label)
	ctx := transport.WithAccount(r.Context(), account)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.api, nil)
	if err != nil {
		return "", err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode == http.StatusUnauthorized {
		// The transport has tried to get another token. Has the provider refused?
		if status, err := a.pool.Source(account).Status(ctx); err != nil || status.State == transport.StateDead {
			return "", cmp.Or(err, status.Err)
		}
	}
	if resp.StatusCode != http.StatusOK {
		// Where the API says what it wants of the user, Begin can ask for it.
		var wanted error
		for _, challenge := range transport.ParseChallenges(resp.Header) {
			wanted = errors.Join(wanted, challenge)
		}
		if wanted != nil {
			return "", wanted
		}
		return "", fmt.Errorf("the API answers %s", resp.Status)
	}
	var pretty bytes.Buffer
	if json.Indent(&pretty, body, "", "  ") != nil {
		return string(body), nil
	}
	return pretty.String(), nil
}

// showCall shows what the API says to the user.
func (a *app) showCall(w http.ResponseWriter, r *http.Request, u user) {
	p := page{Title: "Call the API", User: &u, Label: r.FormValue("label"), API: a.api}
	status := http.StatusOK
	var err error
	if p.Answer, err = a.ask(r, u, p.Label); err != nil {
		status, p.Problem, p.Again = explain(err)
	}
	render(w, status, "call", p)
}

// callAgain sends the user to the provider for what the API, or the provider, demands, and
// then back to the call.
func (a *app) callAgain(w http.ResponseWriter, r *http.Request, u user) {
	label := r.PostFormValue("label")
	back := "/call?" + url.Values{"label": {label}}.Encode()
	_, err := a.ask(r, u, label)
	if err == nil {
		http.Redirect(w, r, back, http.StatusSeeOther)
		return
	}
	if err := a.web.Begin(w, r, login.Start{Label: label, Return: back, Cause: err}); err != nil {
		a.problem(w, u, err)
	}
}

// explain says to a user what an error means, and whether it helps to go to the provider.
func explain(err error) (status int, text string, again bool) {
	challenge, challenged := errors.AsType[transport.Challenge](err)
	switch {
	case errors.Is(err, login.RefusedRepeated):
		return http.StatusForbidden, "The API still does not accept what you have just allowed.", false
	case errors.Is(err, transport.ErrLoginRequired):
		return http.StatusForbidden, "This account is not connected any more. Connect it again to go on.", true
	case challenged && challenge.Params["error"] == "invalid_token": // though it is only seconds old
		return http.StatusBadGateway, "The API does not accept you at the moment. Try again in a while.", false
	case challenged:
		return http.StatusForbidden, "The API wants you to confirm this with the provider.", true
	case errors.Is(err, transport.ErrUnavailable), errors.Is(err, transport.ErrAmbiguous):
		return http.StatusBadGateway, "The provider cannot be reached at the moment. Your account is still connected.", false
	case errors.Is(err, transport.ErrMisconfigured): // The log says what has to be mended.
		return http.StatusInternalServerError, "This site is not set up as it should be. Nothing was changed.", false
	case errors.Is(err, transport.ErrStorage):
		return http.StatusServiceUnavailable, "Your accounts cannot be read at the moment. They are still connected.", false
	}
	return http.StatusBadGateway, "The API does not answer as it should.", false
}

// problem shows a page that says what an error means.
func (a *app) problem(w http.ResponseWriter, u user, err error) {
	status, text, _ := explain(err)
	problem(w, &u, status, text)
}
