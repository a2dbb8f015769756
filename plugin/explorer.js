/**
 * Orthanc Explorer: "De-identify for research" on the pages of a patient, a study and a series.
 *
 * Asks for the project, starts a job through the plugin's routes and shows its progress and its outcome. All addresses
 * are relative to Orthanc Explorer's own (`app/explorer.html`), so it works behind a path prefix; nothing is loaded from
 * elsewhere; and whatever comes from the server is put on the page as text, never as HTML.
 */
(function ($) {
  'use strict';

  var ROOT = '..';
  var LABEL = 'De-identify for research';
  var LEVELS = { patient: 'patients', study: 'studies', series: 'series' };
  var POLL_MS = 700;
  var ID = /^[0-9a-f]{8}(-[0-9a-f]{8}){4}$/;

  var OUTCOMES = {
    queued: 'waiting',
    working: 'being de-identified',
    paused: 'paused',
    ready: 'de-identified, waiting for release',
    released: 'de-identified, being sent',
    confirmed: 'de-identified and confirmed',
    quarantined: 'held in quarantine',
    rejected: 'rejected',
    refused: 'refused by the destination',
    conflict: 'in conflict with what the destination holds',
    'source-lost': 'lost: deleted before their outcome',
    excluded: 'left out by a person',
    cancelled: 'cancelled',
    superseded: 'replaced by newer content'
  };
  var RELEASES = {
    instance: 'each instance is sent at once',
    study: 'a study is sent when it has been quiet for a while',
    manual: 'a study is sent when somebody releases it'
  };

  var STYLE = [
    '.deid-dialog { border: 1px solid #456f9a; border-radius: 8px; padding: 0; width: 30em; max-width: 92vw;',
    '  font: 15px Helvetica, Arial, sans-serif; color: #333; background: #fff; box-shadow: 0 2px 16px rgba(0,0,0,.4); }',
    '.deid-dialog::backdrop { background: rgba(0,0,0,.35); }',
    '.deid-dialog h2 { margin: 0; padding: .6em 1em; font-size: 16px; color: #fff; background: #5e87b0;',
    '  border-radius: 7px 7px 0 0; }',
    '.deid-body { padding: .4em 1em 1em; }',
    '.deid-body p { margin: .7em 0; }',
    '.deid-body select { font-size: 15px; width: 100%; padding: .3em; }',
    '.deid-body progress { width: 100%; height: 1.2em; }',
    '.deid-body ul { margin: .5em 0; padding-left: 1.3em; }',
    '.deid-note { color: #555; font-size: 13px; }',
    '.deid-error { color: #a00; font-weight: bold; overflow-wrap: anywhere; }',
    '.deid-buttons { text-align: right; margin-top: 1em; }',
    '.deid-buttons button { font-size: 15px; margin-left: .6em; padding: .4em 1em; cursor: pointer; }'
  ].join('\n');

  // The server

  /** Sends a request with jQuery, which adds the tokens that Orthanc Explorer takes from its own address. */
  function request(method, path, body) {
    return $.ajax({
      url: ROOT + path,
      type: method,
      dataType: 'json',
      contentType: 'application/json',
      data: body === undefined ? undefined : JSON.stringify(body),
      cache: method !== 'GET',
      timeout: 60000
    });
  }

  /** Says in words why a request failed. */
  function reason(xhr) {
    var answer = null;
    try {
      answer = JSON.parse(xhr.responseText);
    } catch (error) {
      answer = null;
    }
    if (answer && answer.error) {
      var detail = Array.isArray(answer.detail) ? answer.detail.join('; ') : answer.detail;
      return String(answer.error) + (detail ? ': ' + String(detail) : '');
    }
    if (answer && answer.Message) {
      return String(answer.Message);
    }
    return xhr.status ? 'Orthanc answered with status ' + xhr.status : 'Orthanc does not answer';
  }

  // The dialog

  function element(name, text, className) {
    var node = document.createElement(name);
    if (text !== undefined && text !== null) {
      node.textContent = String(text);
    }
    if (className) {
      node.className = className;
    }
    return node;
  }

  function Dialog(level, resource) {
    var self = this;
    this.level = level;
    this.resource = resource;
    this.job = null;
    this.timer = null;
    this.closed = false;
    this.node = element('dialog', null, 'deid-dialog');
    this.node.id = 'deid-dialog';
    this.node.setAttribute('aria-labelledby', 'deid-title');
    var title = element('h2', LABEL);
    title.id = 'deid-title';
    this.body = element('div', null, 'deid-body');
    this.body.setAttribute('aria-live', 'polite');
    this.buttons = element('div', null, 'deid-buttons');
    this.node.appendChild(title);
    this.node.appendChild(this.body);
    this.node.addEventListener('close', function () {
      self.closed = true;
      window.clearTimeout(self.timer);
      self.node.remove();
    });
    document.body.appendChild(this.node);
    this.node.showModal();
  }

  /** Replaces what the dialog shows by these nodes. */
  Dialog.prototype.show = function (nodes, buttons) {
    var body = this.body;
    body.textContent = '';
    nodes.forEach(function (node) {
      body.appendChild(node);
    });
    var row = element('div', null, 'deid-buttons');
    buttons.forEach(function (button) {
      row.appendChild(button);
    });
    body.appendChild(row);
  };

  Dialog.prototype.button = function (label, id, action) {
    var button = element('button', label);
    button.type = 'button';
    button.id = id;
    button.addEventListener('click', action);
    return button;
  };

  Dialog.prototype.closeButton = function (label) {
    var self = this;
    return this.button(label, 'deid-close', function () {
      self.node.close();
    });
  };

  Dialog.prototype.fail = function (text) {
    var message = element('p', text, 'deid-error');
    message.setAttribute('role', 'alert');
    this.show([message], [this.closeButton('Close')]);
  };

  /** First page: which project? */
  Dialog.prototype.ask = function () {
    var self = this;
    this.show([element('p', 'Reading the projects …')], [this.closeButton('Cancel')]);
    request('GET', '/deid/projects').then(
      function (projects) {
        if (self.closed) {
          return;
        }
        if (!projects.length) {
          self.fail('No project is configured in this Orthanc.');
          return;
        }
        self.choose(projects);
      },
      function (xhr) {
        if (!self.closed) {
          self.fail(reason(xhr));
        }
      }
    );
  };

  Dialog.prototype.choose = function (projects) {
    var self = this;
    var nodes = [];
    var summary = element('p', null, 'deid-note');
    var chosen = projects[0];
    function choose(project) {
      chosen = project;
      summary.textContent = describe(project);
    }
    if (projects.length === 1) {
      nodes.push(element('p', 'De-identify this ' + this.level + ' for the project ' + chosen.Name + '?'));
    } else {
      var label = element('label', 'De-identify this ' + this.level + ' for the project');
      label.htmlFor = 'deid-project';
      var select = element('select');
      select.id = 'deid-project';
      projects.forEach(function (project, index) {
        var option = element('option', project.Name);
        option.value = String(index);
        select.appendChild(option);
      });
      select.addEventListener('change', function () {
        choose(projects[Number(select.value)]);
      });
      nodes.push(label, select);
    }
    choose(chosen);
    nodes.push(summary, element('p', 'The original stays as it is.', 'deid-note'));
    var start = this.button('De-identify', 'deid-start', function () {
      start.disabled = true;
      self.start(chosen.Name);
    });
    this.show(nodes, [this.closeButton('Cancel'), start]);
    start.focus();
  };

  function describe(project) {
    var settings = project.Settings || {};
    var parts = [];
    if (settings.Profile) {
      parts.push('Profile ' + settings.Profile);
    }
    var targets = (settings.Destinations || []).map(function (destination) {
      return String(Object.values(destination)[0]);
    });
    if (targets.length) {
      parts.push('goes to ' + targets.join(', '));
      parts.push(RELEASES[settings.Release] || '');
    }
    if (settings.KeepResearchCopy) {
      parts.push('a research copy is kept here');
    }
    return parts.filter(Boolean).join('; ') + '.';
  }

  Dialog.prototype.start = function (project) {
    var self = this;
    request('POST', '/' + LEVELS[this.level] + '/' + this.resource + '/deidentify', { Project: project }).then(
      function (started) {
        self.job = String(started.ID);
        self.watch();
      },
      function (xhr) {
        if (!self.closed) {
          self.fail(reason(xhr));
        }
      }
    );
  };

  /** Second page: how far is it? Asks again until the job has ended, also over a short absence of Orthanc. */
  Dialog.prototype.watch = function () {
    var self = this;
    if (this.closed) {
      return;
    }
    request('GET', '/deid/jobs/' + encodeURIComponent(this.job)).then(
      function (job) {
        if (self.closed) {
          return;
        }
        if (job.State === 'Success' || job.State === 'Failure') {
          self.ended(job);
        } else {
          self.running(job, '');
          self.again();
        }
      },
      function (xhr) {
        if (self.closed) {
          return;
        }
        if (xhr.status === 404) {
          self.fail(reason(xhr));
        } else {
          self.running(self.last, reason(xhr) + '; trying again …');
          self.again();
        }
      }
    );
  };

  Dialog.prototype.again = function () {
    var self = this;
    this.timer = window.setTimeout(function () {
      self.watch();
    }, POLL_MS);
  };

  Dialog.prototype.running = function (job, trouble) {
    var self = this;
    this.last = job;
    if (!this.bar) {
      this.bar = element('progress');
      this.bar.id = 'deid-progress';
      this.bar.max = 100;
      this.bar.setAttribute('aria-label', 'Progress of the job');
      this.counts = element('div');
      this.note = element('p', null, 'deid-note');
      var cancel = this.button('Cancel the job', 'deid-cancel', function () {
        cancel.disabled = true;
        request('POST', '/deid/jobs/' + encodeURIComponent(self.job) + '/cancel').fail(function (xhr) {
          self.note.textContent = reason(xhr);
        });
      });
      this.show([this.bar, this.counts, this.note], [cancel, this.closeButton('Close (the job goes on)')]);
    }
    this.node.setAttribute('data-state', job ? job.State : 'Pending');
    if (job) {
      this.bar.value = job.Progress;
      this.counts.textContent = '';
      this.counts.appendChild(list(job.Content));
    }
    this.note.textContent = trouble || (job && job.Content.Waiting) || '';
  };

  function list(content) {
    var node = element('ul');
    Object.keys(content.Outcomes || {}).forEach(function (state) {
      node.appendChild(element('li', content.Outcomes[state] + ' ' + (OUTCOMES[state] || state)));
    });
    return node;
  }

  /** Last page: what became of it? */
  Dialog.prototype.ended = function (job) {
    var content = job.Content;
    var nodes = [];
    var total = content.Instances;
    if (job.State === 'Failure') {
      var failed = element('p', 'The job failed: ' + job.ErrorDescription, 'deid-error');
      failed.setAttribute('role', 'alert');
      nodes.push(failed);
    } else if (total === 0) {
      nodes.push(element('p', content.Skipped ? 'Nothing to do: these are research copies.' : 'Nothing was found.'));
    } else {
      nodes.push(element('p', 'Done: ' + total + (total === 1 ? ' instance.' : ' instances.')));
    }
    nodes.push(list(content));
    var reasons = Object.keys(content.Reasons || {});
    if (reasons.length) {
      nodes.push(element('p', 'Reasons:', 'deid-note'));
      var why = element('ul', null, 'deid-note');
      reasons.forEach(function (code) {
        why.appendChild(element('li', content.Reasons[code] + ' ' + code));
      });
      nodes.push(why);
    }
    var links = element('ul');
    links.id = 'deid-links';
    nodes.push(links);
    this.node.setAttribute('data-state', job.State);
    this.show(nodes, [this.closeButton('Close')]);
    var self = this;
    var studies = (content.ResearchStudies || []).filter(function (study) {
      return ID.test(study.ID);
    });
    studies.forEach(function (study, index) {
      var number = studies.length > 1 ? ' ' + (index + 1) : '';
      self.link(links, study.ID, 'Open the research study' + number);
    });
  };

  /** Adds a link to a research study, if Orthanc has its copy. */
  Dialog.prototype.link = function (links, study, text) {
    var item = element('li');
    item.hidden = true;
    links.appendChild(item);
    request('GET', '/studies/' + study).then(function () {
      var link = element('a', text);
      link.href = 'explorer.html#study?uuid=' + study;
      link.addEventListener('click', function (event) {
        // jQuery Mobile does not show a page again that it already shows, so the page is loaded anew.
        event.preventDefault();
        event.stopPropagation();
        window.location.assign(link.href);
        window.location.reload();
      });
      item.appendChild(link);
      item.hidden = false;
    });
  };

  // The buttons

  function currentResource() {
    var match = /[?&]uuid=([^&]+)/.exec(window.location.hash);
    var id = match ? match[1] : ($.mobile.pageData || {}).uuid;
    return ID.test(id) ? id : null;
  }

  function addButton(level) {
    var anonymize = document.getElementById(level + '-anonymize');
    if (!anonymize || document.getElementById(level + '-deidentify')) {
      return;
    }
    var link = element('a', LABEL);
    link.href = '#';
    link.id = level + '-deidentify';
    var item = element('li');
    item.setAttribute('data-icon', 'star');
    item.appendChild(link);
    anonymize.closest('li').insertAdjacentElement('afterend', item);
  }

  // Before jQuery Mobile builds a page, so that it dresses the button like its neighbours.
  Object.keys(LEVELS).forEach(function (level) {
    $(document).on('pagebeforecreate', '#' + level, function () {
      addButton(level);
    });
    $(document).on('click', '#' + level + '-deidentify', function (event) {
      event.preventDefault();
      var resource = currentResource();
      if (resource && !document.getElementById('deid-dialog')) {
        new Dialog(level, resource).ask();
      }
    });
  });

  $(document).ready(function () {
    document.head.appendChild(element('style', STYLE));
  });
})(window.jQuery);
