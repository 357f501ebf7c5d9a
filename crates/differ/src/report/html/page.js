'use strict';
(() => {
  const head = JSON.parse(document.querySelector('script.head').textContent);
  const chunks = [...document.querySelectorAll('script.chunk')];
  const byId = (id) => document.getElementById(id);
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const number = (value) => value.toLocaleString('en').replaceAll(',', '\u202f');

  // Differences: a chunk is parsed when something of it is wanted; a few stay.
  const KEPT = 8;
  const parsed = new Map();
  const chunk = (index) => {
    let found = parsed.get(index);
    if (!found) {
      found = JSON.parse(chunks[index].textContent);
      if (parsed.size >= KEPT) parsed.delete(parsed.keys().next().value);
    } else {
      parsed.delete(index);
    }
    parsed.set(index, found);
    return found;
  };
  const difference = (place) => {
    const [flight, ...images] = chunk(Math.floor(place / head.chunk))[place % head.chunk];
    const base = images.findIndex((image) => image !== 0);
    return { place, flight, base, images };
  };
  const cell = (found, node, column) => {
    const image = found.images[node];
    if (image === 0 || image === undefined) return undefined;
    const change = image[0][column];
    return change === undefined ? found.images[found.base][0][column] : change;
  };
  const keyOf = (found) => head.key.map((column) => cell(found, found.base, column));
  const between = (found, a, b) => {
    if (found.flight !== 0) return 'flight';
    const [one, other] = [found.images[a], found.images[b]];
    if (one === 0 && other === 0) return 'same';
    if (one === 0) return 'missing_on_n1';
    if (other === 0) return 'missing_on_n2';
    return head.columns.some((_, column) => cell(found, a, column) !== cell(found, b, column)) ? 'row_mismatch' : 'same';
  };

  // Summary.
  const summary = head.summary;
  byId('title').textContent = head.table.join('.');
  byId('verdict').className = summary.verdict;
  byId('verdict').textContent = {
    match: 'The tables match.', differ: 'The tables differ.', unknown: 'Not everything could be established.',
  }[summary.verdict];
  const fact = (name, value) => {
    const box = make('div');
    box.append(make('b', '', value), name);
    byId('facts').append(box);
  };
  fact('differing keys', number(summary.confirmed));
  for (const [a, b, count] of head.pairs) fact(`${head.nodes[a]} / ${head.nodes[b]}`, `${number(count)} keys`);
  for (const node of summary.nodes) fact(`rows compared on ${node.node}`, `${number(node.rows)}, ${number(node.missing)} missing`);
  if (summary.in_flight) fact('keys in flight: no statement about them', number(summary.in_flight));
  if (summary.unknown) fact('ranges unknown', number(summary.unknown));
  if (summary.limit_reached) fact('stopped early', 'limit of differences reached');
  if (head.filter) fact('only rows where', head.filter);
  fact('began', head.started);
  fact('ended', summary.ended);
  if (head.embedded < head.total) fact('of which are on this page; the NDJSON file has all', number(head.embedded));
  for (const range of summary.unknown_ranges) fact('unknown range', range.reason);
  for (const note of summary.notes) fact('note', note);

  // Map.
  const tallest = Math.max(1, ...head.map.map(([count]) => count));
  for (const [count, start] of head.map) {
    const bar = make('i');
    // The smallest bar has to be seen beside the largest.
    bar.style.height = count ? `${Math.max(3, 100 * Math.sqrt(count / tallest))}%` : '0';
    if (count) {
      bar.dataset.start = start;
      bar.title = `${number(count)} keys`;
    }
    byId('map').append(bar);
  }
  byId('map').setAttribute('aria-label', `${number(head.total)} differing keys from ${head.ends[0]} to ${head.ends[1]}`);
  [...byId('ends').children].forEach((element, index) => { element.textContent = head.ends[index] ?? ''; });

  // The list shows what is in view. Browsers cannot scroll further than some 15 million pixels.
  const ROW = 24;
  const HEIGHT = ROW * head.nodes.length + 1;
  const TALLEST = 12000000;
  const list = byId('list');
  let matching = null;
  let columns = [];
  const choices = new Map();
  const count = () => (matching ? matching.length : head.embedded);
  const placeOf = (index) => (matching ? matching[index] : index);
  const scale = () => {
    const real = count() * HEIGHT;
    return real > TALLEST ? (real - list.clientHeight) / (TALLEST - list.clientHeight) : 1;
  };
  const chooseColumns = () => {
    const every = byId('every').checked;
    const all = head.columns.map((column, position) => ({ ...column, position }));
    const keys = head.key.map((position) => all[position]);
    columns = keys.concat(all.filter((column) => !column.key && (every || column.changing)));
    const line = byId('columns');
    line.replaceChildren(make('div', 'cell node', 'node'));
    for (const column of columns) {
      const title = make('div', `cell${column.key ? ' key' : ''}`, column.name);
      title.title = `${column.name} ${column.type}`;
      line.append(title);
    }
  };
  const marked = (text, other) => {
    let start = 0;
    while (start < text.length && start < other.length && text[start] === other[start]) start += 1;
    let end = 0;
    while (end < text.length - start && end < other.length - start && text[text.length - 1 - end] === other[other.length - 1 - end]) end += 1;
    const part = (tag, from, to) => (from < to ? [make(tag, '', text.slice(from, to))] : []);
    return [...part('s', 0, start), ...part('b', start, text.length - end), ...part('s', text.length - end, text.length)];
  };
  const show = (value) => (value.length > 400 ? `${value.slice(0, 400)}…` : value);
  const ACTIONS = ['', 'keep_n1', 'keep_n2', 'delete', 'bidirectional', 'skip'];
  const allowed = (action, kind) => !(action === 'keep_n1' && kind === 'missing_on_n1') && !(action === 'keep_n2' && kind === 'missing_on_n2');
  const picker = (found) => {
    const select = make('select');
    const [a, b] = pairNow();
    const kind = between(found, a, b);
    if (kind === 'flight' || kind === 'same') return null;
    for (const action of ACTIONS.filter((action) => allowed(action, kind))) {
      const option = make('option', '', action || 'by rule');
      option.value = action;
      select.append(option);
    }
    select.value = choices.get(found.place)?.action ?? '';
    select.setAttribute('aria-label', `action for ${keyOf(found).join(', ')}`);
    select.addEventListener('change', () => {
      if (select.value) choices.set(found.place, { action: select.value, key: keyOf(found) });
      else choices.delete(found.place);
      renderPlan();
    });
    return select;
  };
  const element = (found) => {
    const box = make('div', `difference${found.flight === 0 ? '' : ' flight'}`);
    box.style.height = `${HEIGHT}px`;
    const against = found.images.findIndex((image, node) => image !== 0 && node !== found.base);
    head.nodes.forEach((name, node) => {
      const line = make('div', 'row');
      const label = make('div', 'cell node');
      const words = make('span', '', found.flight && node === 0 ? `${name}, ${found.flight}` : name);
      const image = found.images[node];
      if (image !== 0) words.title = [image[1], image[2]].filter(Boolean).join(', written by ');
      label.append(words);
      if (node === 0) {
        const select = picker(found);
        if (select) label.append(select);
      }
      line.append(label);
      for (const column of columns) {
        const value = cell(found, node, column.position);
        const other = cell(found, node === found.base ? against : found.base, column.position);
        const absent = value === undefined;
        const changed = !absent && other !== undefined && value !== other;
        const box = make('div', `cell${absent ? ' absent' : ''}${changed ? ' changed' : ''}${column.key ? ' key' : ''}`);
        if (absent) box.textContent = column.position === head.key[0] ? 'no row' : '';
        else if (value === null) { box.classList.add('null'); box.textContent = 'NULL'; }
        else if (changed && other !== null) box.append(...marked(show(value), show(other)));
        else box.textContent = show(value);
        if (!absent && value !== null) box.title = value.slice(0, 2000);
        line.append(box);
      }
      box.append(line);
    });
    return box;
  };
  const renderList = () => {
    const top = list.scrollTop * scale();
    const first = Math.max(0, Math.floor(top / HEIGHT) - 4);
    const last = Math.min(count(), Math.ceil((top + list.clientHeight) / HEIGHT) + 4);
    const items = [];
    for (let index = first; index < last; index += 1) items.push(element(difference(placeOf(index))));
    byId('window').replaceChildren(...items);
    byId('window').style.transform = `translateY(${list.scrollTop - top + first * HEIGHT}px)`;
  };
  const layout = () => {
    byId('space').style.height = `${Math.min(count() * HEIGHT, TALLEST)}px`;
    byId('found').textContent = matching ? `${number(count())} of ${number(head.embedded)}` : `${number(count())}`;
    renderList();
  };
  const goTo = (index) => {
    list.scrollTop = (index * HEIGHT) / scale();
    renderList();
  };

  // Filtering works through the differences in slices, so that the page answers meanwhile.
  let round = 0;
  const filter = () => {
    const kind = byId('kind').value;
    const text = byId('search').value.toLowerCase();
    round += 1;
    if (!kind && !text) {
      matching = null;
      list.scrollTop = 0;
      layout();
      return Promise.resolve();
    }
    const mine = round;
    const found = [];
    let place = 0;
    return new Promise((done) => {
      const step = () => {
        if (mine !== round) { done(); return; }
        const until = performance.now() + 12;
        while (place < head.embedded && performance.now() < until) {
          // A whole chunk at a time would be too long for wide tables.
          const stop = Math.min(head.embedded, place + 50);
          for (; place < stop; place += 1) if (fits(difference(place), kind, text)) found.push(place);
        }
        matching = found;
        if (place < head.embedded) {
          byId('found').textContent = `${number(found.length)} so far`;
          setTimeout(step, 0);
          return;
        }
        list.scrollTop = 0;
        layout();
        done();
      };
      step();
    });
  };
  const fits = (found, kind, text) => {
    if (kind && between(found, ...pairNow()) !== kind) return false;
    if (!text) return true;
    return found.images.some((image) => image !== 0 && Object.values(image[0]).some((value) => value !== null && value.toLowerCase().includes(text)));
  };

  // Plan builder. JSON texts are YAML texts.
  const quoted = (text) => (text === null ? 'null' : JSON.stringify(text));
  const pairs = head.pairs.length ? head.pairs : [[0, 1, 0]];
  const pairNow = () => pairs[Number(byId('pair').value) || 0];
  const KINDS = ['row_mismatch', 'missing_on_n1', 'missing_on_n2'];
  const option = (select, value, text) => {
    const entry = make('option', '', text);
    entry.value = value;
    select.append(entry);
  };
  pairs.forEach(([a, b], index) => option(byId('pair'), index, `n1 = ${head.nodes[a]}, n2 = ${head.nodes[b]}`));
  for (const action of ['skip', 'keep_n1', 'keep_n2', 'delete', 'bidirectional']) option(byId('otherwise'), action, action);
  const bulk = new Map();
  for (const kind of KINDS) {
    const label = make('label', '', `${kind} `);
    const select = make('select');
    select.id = `bulk_${kind}`;
    for (const action of ACTIONS.filter((action) => allowed(action, kind))) option(select, action, action || 'otherwise');
    bulk.set(kind, select);
    select.addEventListener('change', () => renderPlan());
    label.append(select);
    byId('bulk').append(label, ' ');
  }
  const plan = () => {
    const lines = ['version: 1', 'tables:', `  ${quoted(head.table.join('.'))}:`, `    default_action: {type: ${byId('otherwise').value}}`];
    const rules = [...bulk].filter(([, select]) => select.value);
    if (rules.length) lines.push('    rules:');
    for (const [kind, select] of rules) lines.push(`      - {name: ${kind}, diff_type: [${kind}], action: {type: ${select.value}}}`);
    if (choices.size) lines.push('    row_overrides:');
    for (const { action, key } of choices.values()) {
      const parts = head.key.map((column, part) => `${quoted(head.columns[column].name)}: ${quoted(key[part])}`);
      lines.push(`      - {pk: {${parts.join(', ')}}, action: {type: ${action}}}`);
    }
    return `${lines.join('\n')}\n`;
  };
  const SHOWN = 20000;
  const renderPlan = () => {
    const text = plan();
    byId('plan').textContent = text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
    byId('chosen').textContent = `${number(choices.size)} rows chosen one by one`;
  };

  for (const [value, text] of [['', 'all'], ['row_mismatch', 'rows that differ'], ['missing_on_n1', 'missing on n1'], ['missing_on_n2', 'missing on n2'], ['flight', 'in flight']]) option(byId('kind'), value, text);
  byId('kind').addEventListener('change', filter);
  byId('search').addEventListener('input', filter);
  byId('every').addEventListener('change', () => { chooseColumns(); renderList(); });
  byId('pair').addEventListener('change', () => { choices.clear(); renderPlan(); filter(); });
  byId('otherwise').addEventListener('change', renderPlan);
  byId('clear').addEventListener('click', () => { choices.clear(); renderPlan(); renderList(); });
  byId('copy').addEventListener('click', () => navigator.clipboard.writeText(plan()));
  byId('download').addEventListener('click', (event) => { event.target.href = `data:text/yaml;charset=utf-8,${encodeURIComponent(plan())}`; });
  byId('map').addEventListener('click', (event) => {
    if (event.target.dataset.start === undefined) return;
    byId('kind').value = '';
    byId('search').value = '';
    filter();
    goTo(Number(event.target.dataset.start));
  });
  let waiting = false;
  list.addEventListener('scroll', () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; renderList(); });
  });
  chooseColumns();
  layout();
  renderPlan();
  window.report = { filter, goTo, plan, count };
})();
