// Storage for oidc-provider. Its own in-memory adapter forgets old entries; this one
// keeps everything, because a spent refresh token must be recognised however many
// rotations later it comes back.

export class Store {
  entries = new Map(); // "Model:id" -> { payload, expiresAt }
  doubleSpends = 0;

  // adapter is the factory that oidc-provider calls once for each of its models.
  adapter = (model) => new Adapter(this, model);

  // get returns the payload under key unless it has expired.
  get(key) {
    const entry = this.entries.get(key);
    return entry && entry.expiresAt > Date.now() ? entry.payload : undefined;
  }

  find(model, matches) {
    for (const key of this.entries.keys()) {
      if (!key.startsWith(`${model}:`)) continue;
      const payload = this.get(key);
      if (payload && matches(payload)) return payload;
    }
    return undefined;
  }
}

class Adapter {
  constructor(store, model) {
    this.store = store;
    this.model = model;
  }

  key(id) {
    return `${this.model}:${id}`;
  }

  async upsert(id, payload, expiresIn) {
    const expiresAt = expiresIn ? Date.now() + expiresIn * 1000 : Infinity;
    this.store.entries.set(this.key(id), { payload, expiresAt });
  }

  async find(id) {
    return this.store.get(this.key(id));
  }

  async findByUid(uid) {
    return this.store.find(this.model, (payload) => payload.uid === uid);
  }

  async findByUserCode(userCode) {
    return this.store.find(this.model, (payload) => payload.userCode === userCode);
  }

  // The provider looks at "consumed" and consumes in two steps, so two requests that
  // arrive together can both pass. Here the second one is noticed.
  async consume(id) {
    const payload = this.store.get(this.key(id));
    if (!payload) return;
    if (payload.consumed && this.model === 'RefreshToken') this.store.doubleSpends += 1;
    payload.consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    this.store.entries.delete(this.key(id));
  }

  async revokeByGrantId(grantId) {
    for (const [key, { payload }] of this.store.entries) {
      if (key.startsWith(`${this.model}:`) && payload.grantId === grantId) this.store.entries.delete(key);
    }
  }
}
