use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use secrecy::ExposeSecret;
use toml::Value;

use super::keys::table_of;
use super::*;

const EXAMPLE: &str = include_str!("../../../../guildex.example.toml");
const DOCS: &str = include_str!("../../../../docs/configuration.md");

/// Loads a file with this text, variables and flags. Paths in errors are shortened to `guildex.toml`.
fn load(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("guildex.toml");
    std::fs::write(&path, file).unwrap();
    let flags: Vec<_> = flags.iter().map(|pair| owned(*pair)).collect();
    Config::load(Some(&path), env.iter().map(|pair| owned(*pair)), &flags)
        .map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn error(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    load(file, env, flags).expect_err("an error")
}

#[test]
fn unset_keys_have_defaults() {
    let loaded = load("", &[], &[]).unwrap();
    assert_eq!(table_of(&loaded.config), table_of(&Config::default()));
    assert!(Keys::new([]).iter().all(|key| *loaded.origin(&key.name) == Origin::Default));
}

#[test]
fn flags_override_variables_the_file_and_plain_variables_in_this_order() {
    let file = "[database]\nurl = 'postgres://file/x'";
    let plain = ("DATABASE_URL", "postgres://plain/x");
    let ours = ("GUILDEX_DATABASE_URL", "postgres://ours/x");
    let flag = ("database.url", "postgres://flag/x");
    let found = |file, env: &[_], flags: &[_]| {
        let loaded = load(file, env, flags).unwrap();
        (loaded.config.database_url().unwrap().expose().to_owned(), loaded.origin("database.url").clone())
    };

    assert_eq!(found("", &[plain], &[]), (plain.1.into(), Origin::Variable("DATABASE_URL".into())));
    let (url, origin) = found(file, &[plain], &[]);
    assert_eq!(url, "postgres://file/x");
    assert!(matches!(origin, Origin::File { line: 2, .. }), "{origin:?}");
    let variable = Origin::Variable("GUILDEX_DATABASE_URL".into());
    assert_eq!(found(file, &[plain, ours], &[]), (ours.1.into(), variable));
    assert_eq!(found(file, &[plain, ours], &[flag]), (flag.1.into(), Origin::Flag));
}

#[test]
fn the_last_of_repeated_flags_applies() {
    let loaded = load("", &[], &[("log.level", "warn"), ("log.level", "debug")]).unwrap();
    assert_eq!(loaded.config.log.level, "debug");
}

#[test]
fn values_of_every_type_are_read_from_file_variables_and_flags() {
    let file = r#"
        data_dir = "/var/lib/guildex"
        index.preview = false
        [optout]
        users = ["1", "1234567890123456789"]
        [worker]
        lease = "90s"
        concurrency = { live = 3 }
        [log]
        format = "json"
    "#;
    let text = [
        ("data_dir", "/var/lib/guildex"),
        ("index.preview", "false"),
        ("optout.users", "1, 1234567890123456789,"),
        ("worker.lease", "1m 30s"),
        ("worker.concurrency.live", " 3 "),
        ("log.format", "json"),
    ];
    let variables = text.map(|(key, value)| (Keys::new([]).get(key).unwrap().variable(), value));
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), *value)).collect();

    let from_file = load(file, &[], &[]).unwrap().config;
    assert_eq!(table_of(&load("", &variables, &[]).unwrap().config), table_of(&from_file));
    assert_eq!(table_of(&load("", &[], &text).unwrap().config), table_of(&from_file));

    assert_eq!(from_file.data_dir, Path::new("/var/lib/guildex"));
    assert!(!from_file.index.preview);
    assert_eq!(from_file.optout.users.len(), 2);
    assert_eq!(from_file.worker.process.lease, Duration::from_secs(90));
    assert_eq!(from_file.worker.process.concurrency.live, 3);
    assert_eq!(from_file.log.format, LogFormat::Json);
}

#[test]
fn every_key_has_a_unique_variable() {
    let keys = Keys::new([]);
    let names: BTreeSet<_> = keys.iter().map(|key| key.variable()).collect();
    assert_eq!(names.len(), keys.iter().count());
    for name in
        ["GUILDEX_DATA_DIR", "GUILDEX_MODEL_DIR", "GUILDEX_SESSIONS_MIN_MESSAGES", "GUILDEX_DATABASE_URL"]
    {
        assert!(names.contains(name), "{name}");
    }
    for (_, key) in layers::PLAIN {
        assert!(keys.get(key).is_some(), "{key}");
    }
}

#[test]
fn empty_values_count_as_not_set() {
    let file = "[database]\nurl = ''\n[model]\ndir = ' '\n[log]\nlevel = ''";
    let env = [
        ("DATABASE_URL", "postgres://plain/x"),
        ("GUILDEX_DATABASE_URL", ""),
        ("GUILDEX_WORKER_BATCH_SIZE", " "),
    ];
    let loaded = load(file, &env, &[]).unwrap();
    assert_eq!(*loaded.origin("database.url"), Origin::Variable("DATABASE_URL".into()));
    assert_eq!(loaded.config.model.dir, None);
    assert_eq!(loaded.config.log.level, "info");
    assert_eq!(loaded.config.worker.process.batch_size, 64);
}

#[test]
fn a_flag_can_clear_a_list() {
    let loaded = load("optout.users = ['1']", &[], &[("optout.users", "")]).unwrap();
    assert!(loaded.config.optout.users.is_empty());
}

#[test]
fn unknown_names_are_rejected_with_a_suggestion() {
    let file = "[worker]\nbatchsize = 5\n[dispatch]\nx = 1\n[worker.concurrency]\nlife = 2";
    let env = [("GUILDEX_MODEL_DIRECTORY", "/x"), ("GUILDEX_QQ", "1"), ("OTHER", "1")];
    insta::assert_snapshot!(error(file, &env, &[("redis.prefiks", "x"), ("a=b c://d", "x")]), @r"
    invalid configuration:
      worker.batchsize (guildex.toml line 2): no such setting; did you mean worker.batch_size?
      worker.concurrency.life (guildex.toml line 6): no such setting; did you mean worker.concurrency.live?
      dispatch (guildex.toml line 3): no such setting; did you mean dispatcher?
      variable GUILDEX_MODEL_DIRECTORY: no such setting; did you mean GUILDEX_MODEL_DIR?
      variable GUILDEX_QQ: no such setting; docs/configuration.md lists all
      redis.prefiks (command line): no such setting; did you mean redis.prefix?
      (a key with special characters) (command line): no such setting; docs/configuration.md lists all
    ");
}

#[test]
fn variables_of_scripts_and_kubernetes_are_ignored() {
    for name in [
        "GUILDEX_INT8_MODEL_DIR",
        "GUILDEX_RESTARTS",
        "GUILDEX_BENCH_SIZE",
        "GUILDEX_TEST_DATABASE_URL",
        "GUILDEX_SERVICE_HOST",
        "GUILDEX_PORT",
        "GUILDEX_PORT_80_TCP",
    ] {
        assert!(load("", &[(name, "x")], &[]).is_ok(), "{name}");
    }
    for name in ["GUILDEX_OFFLINE", "GUILDEX_PORTS", "GUILDEX_", "GUILDEX_BENCH"] {
        assert!(load("", &[(name, "x")], &[]).is_err(), "{name}");
    }
}

#[test]
fn values_of_the_wrong_type_are_rejected_and_not_converted() {
    let file = r#"
        redis = 5
        [sessions]
        min_messages = true
        include_bots = 1
        [worker]
        batch_size = 2.5
        lease = 60
        max_attempts = 99999999999999999999
        [optout]
        users = [123]
        channels = "1"
    "#;
    let env = [("GUILDEX_SESSIONS_LONE_MESSAGE_MIN_WORDS", "a dozen"), ("GUILDEX_INDEX_PREVIEW", "yes")];
    insta::assert_snapshot!(error(file, &env, &[]), @r#"
    invalid configuration:
      redis (guildex.toml line 2): a section: write [redis] and its keys below
      sessions.min_messages (guildex.toml line 4): expected a whole number, such as 2
      sessions.include_bots (guildex.toml line 5): expected true or false
      worker.batch_size (guildex.toml line 7): expected a whole number, such as 64
      worker.lease (guildex.toml line 8): expected a text in quotes, such as "10s"
      worker.max_attempts (guildex.toml line 9): expected a whole number, such as 5
      optout.users (guildex.toml line 11): expected a list of texts, such as ["123", "456"]
      optout.channels (guildex.toml line 12): expected a list of texts, such as ["123", "456"]
      index.preview (variable GUILDEX_INDEX_PREVIEW): expected true or false
      sessions.lone_message_min_words (variable GUILDEX_SESSIONS_LONE_MESSAGE_MIN_WORDS): expected a whole number, such as 12
    "#);
}

#[test]
fn values_out_of_range_are_rejected_with_the_range() {
    let file = r#"
        [model]
        name = "Nice Model"
        max_tokens = 512
        max_batch_tokens = 256
        [optout]
        users = ["0x7"]
        [worker]
        batch_size = 0
        max_attempts = -1
        lease = "soon"
        [retry]
        initial_delay = "10m"
        [log]
        level = "inof"
        format = "xml"
    "#;
    let env = [("GUILDEX_DISPATCHER_MAX_QUEUED", "1001"), ("GUILDEX_WORKER_DEBOUNCE", "-3s")];
    insta::assert_snapshot!(error(file, &env, &[("redis.prefix", "a b"), ("data_dir", "")]), @r#"
    invalid configuration:
      log.format (guildex.toml line 16): unknown variant `xml`, expected `text` or `json`
      model.name (guildex.toml line 3): invalid model name "Nice Model": expected 1 to 64 characters of a-z, 0-9, '-', '_' and '.', starting with a letter or digit
      optout.users (guildex.toml line 7): invalid id "0x7": expected an integer from 1 to 9223372036854775807
      worker.debounce (variable GUILDEX_WORKER_DEBOUNCE): "-3s" is not a duration: write a number and a unit, as in 300ms, 60s or 24h
      worker.lease (guildex.toml line 11): "soon" is not a duration: write a number and a unit, as in 300ms, 60s or 24h
      worker.max_attempts (guildex.toml line 10): -1 is not allowed; use 1 to 100
      data_dir (command line): "" is not allowed; use the path of a folder
      redis.prefix (command line): "a b" is not allowed; use 1 to 64 of a-z, 0-9, - and _
      model.max_batch_tokens (guildex.toml line 5): 256 is not allowed; use at least model.max_tokens, so that every text fits a call
      worker.batch_size (guildex.toml line 9): 0 is not allowed; use 1 to 1024
      retry.max_delay (default): 5m is not allowed; use at least retry.initial_delay
      dispatcher.max_queued (variable GUILDEX_DISPATCHER_MAX_QUEUED): 1001 is not allowed; use 1 to 1000
      log.level (guildex.toml line 15): "inof" is not allowed; use off, error, warn, info, debug, trace or target=level, by comma
    "#);
}

#[test]
fn the_sessionizer_uses_the_configured_rules() {
    use guildex_producer::sessionizer::Rules;

    assert_eq!(Config::default().sessions.rules(), Rules::default());
    let flags = [("sessions.lookback", "2h"), ("sessions.max_span", "90m"), ("sessions.max_messages", "7")];
    let rules = load("", &[], &flags).unwrap().config.sessions.rules();
    let (lookback, max_span) = (chrono::TimeDelta::hours(2), chrono::TimeDelta::minutes(90));
    assert_eq!(rules, Rules { lookback, max_span, max_messages: 7, ..Rules::default() });
    let blind = [("sessions.lookback", "1h"), ("sessions.max_span", "2h"), ("sessions.join_gap", "1m")];
    assert!(
        error("", &[], &blind).contains("sessions.max_span"),
        "a lookback shorter than the span was accepted"
    );
}

#[test]
fn limits_of_ranges_are_inclusive() {
    let flags = [("dispatcher.max_queued", "1000"), ("worker.batch_size", "1"), ("worker.debounce", "0s")];
    assert!(load("", &[], &flags).is_ok());
}

#[test]
fn log_filters_accept_targets_and_reject_misspelled_levels() {
    for level in ["warn", "INFO,sqlx=warn", "guildex=debug,apalis=off"] {
        assert!(load("", &[], &[("log.level", level)]).is_ok(), "{level}");
    }
    for level in ["verbose", "info,sqlx", "info,", "sqlx=loud"] {
        assert!(load("", &[], &[("log.level", level)]).is_err(), "{level}");
    }
}

#[test]
fn toml_errors_have_a_position_and_no_content() {
    let text = "[redis]\nprefix = \"é\"\nurl = \"redis://:hunter2@h\" x\n";
    insta::assert_snapshot!(error(text, &[], &[]), @r"guildex.toml is not TOML: line 3, column 28: unexpected key or value, expected newline, `#`");
    insta::assert_snapshot!(error("[log]\nlevel = 'info'\nlevel = 'warn'", &[], &[]), @r"guildex.toml is not TOML: line 3, column 1: duplicate key");
}

#[test]
fn a_missing_named_file_is_an_error() {
    let missing = PathBuf::from("/nonexistent/guildex.toml");
    let env = || std::iter::once(("GUILDEX_CONFIG".to_owned(), "/nonexistent/other.toml".to_owned()));
    let by_flag = Config::load(Some(&missing), env(), &[]).unwrap_err();
    assert!(matches!(by_flag, ConfigError::Unreadable { path, .. } if path == missing));
    let by_variable = Config::load(None, env(), &[]).unwrap_err();
    insta::assert_snapshot!(by_variable, @r"cannot read the configuration file /nonexistent/other.toml: No such file or directory (os error 2); correct --config or GUILDEX_CONFIG, or the file's permissions");
}

#[test]
fn without_a_named_file_the_first_existing_default_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let [near, far] = ["near.toml", "far.toml"].map(|name| dir.path().join(name));
    let places = [near.as_path(), far.as_path()];
    let find = || layers::find_file(None, &BTreeMap::new(), &places);

    assert_eq!(find(), None);
    std::fs::write(&far, "").unwrap();
    assert_eq!(find().as_ref(), Some(&far));
    std::fs::write(&near, "").unwrap();
    assert_eq!(find().as_ref(), Some(&near));
}

#[test]
fn a_missing_url_is_an_error_only_when_it_is_used() {
    let config = load("", &[], &[]).unwrap().config;
    insta::assert_snapshot!(config.database_url().unwrap_err(), @r"database.url is not set: add it to the configuration file, or set GUILDEX_DATABASE_URL or DATABASE_URL");
    insta::assert_snapshot!(config.redis_url().unwrap_err(), @r"redis.url is not set: add it to the configuration file, or set GUILDEX_REDIS_URL or REDIS_URL");
}

#[test]
fn named_models_have_sections_and_variables() {
    let file = "[models.e5-small]\nsource = 'multilingual-e5-small'\nquery_prefix = 'query: '\n
                [models.far]\nprovider = 'http'\nbase_url = 'http://h/v1'\nmodel = 'm'\ndimensions = 8";
    let env = [("GUILDEX_MODELS_FAR_API_KEY", "hunter2"), ("GUILDEX_MODELS_E5_SMALL_MAX_TOKENS", "512")];
    let loaded = load(file, &env, &[("models.far.concurrency", "2")]).unwrap();
    let [near, far] = ["e5-small", "far"].map(|name| &loaded.config.models[name]);
    assert_eq!((near.source.as_deref(), near.max_tokens), (Some("multilingual-e5-small"), 512));
    assert_eq!((far.dimensions, far.concurrency), (8, 2));
    assert_eq!(far.api_key.as_ref().unwrap().expose_secret(), "hunter2");
    for shown in [loaded.to_toml(), format!("{loaded:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn invalid_models_are_rejected() {
    let file =
        "[models.Near]\nmax_tokens = 9000\n[models.far]\nprovider = 'http'\nmodels = 'x'\ndimensions = 0";
    insta::assert_snapshot!(error(file, &[], &[]), @r#"
    invalid configuration:
      models.far.models (guildex.toml line 5): no such setting; did you mean models.far.model?
      models.Near (default): "Near" is not allowed; use a name of 1 to 64 of a-z, 0-9, - and _, a letter or digit first
      models.Near.dir (default): nothing is not allowed; use the model's folder, or models.Near.source
      models.Near.max_tokens (guildex.toml line 2): 9000 is not allowed; use 32 to 8192
      models.Near.max_batch_tokens (default): 8192 is not allowed; use at least models.Near.max_tokens, so that every text fits a call
      models.far.dimensions (guildex.toml line 6): 0 is not allowed; use 1 to 65536
      models.far.base_url (default): nothing is not allowed; use the server's URL
      models.far.model (default): nothing is not allowed; use the model's name at the server
    "#);
    assert!(error("models = 3", &[], &[]).contains("models (guildex.toml line 1)"));
}

#[test]
fn urls_with_another_scheme_are_rejected() {
    let env = [("DATABASE_URL", "mysql://me:hunter2@db/x"), ("REDIS_URL", "localhost:6379")];
    insta::assert_snapshot!(error("", &env, &[]), @r"
    invalid configuration:
      redis.url (variable REDIS_URL): not a connection URL: write scheme://user:password@host:port/name
      database.url (variable DATABASE_URL): this kind of URL is not allowed; use postgres:// or postgresql://
    ");
}

#[test]
fn a_key_value_flag_is_split_at_the_first_equals_sign() {
    assert_eq!(key_value("redis.url = redis://h?a=b").unwrap(), owned(("redis.url", " redis://h?a=b")));
    assert!(key_value("worker.batch_size").is_err());
}

#[test]
fn the_effective_configuration_is_shown_with_origins() {
    let file = "[redis]\nurl = 'redis://:hunter2@cache:6379/1'\n\n[worker]\nbatch_size = 32";
    let env = [("DATABASE_URL", "postgres://guildex:hunter2@db/guildex?password=hunter2")];
    let flags = [("optout.users", "17,18"), ("worker.concurrency.live", "4")];
    let shown = load(file, &env, &flags).unwrap().to_toml();
    // Without defaults, which other tests cover, and without the path of the temporary folder.
    let relevant = shown.lines().filter(|line| line.contains('#') || line.starts_with('['));
    let here = relevant.map(|line| match line.split_once(" # /") {
        Some((value, path)) => format!("{value} # {}", path.rsplit('/').next().unwrap()),
        None => line.to_owned(),
    });
    insta::assert_snapshot!(here.collect::<Vec<_>>().join("\n"), @r#"
    # The effective configuration. Values without a comment are defaults.
    [database]
    url = "postgres://guildex:***@db/guildex?***" # variable DATABASE_URL
    [redis]
    url = "redis://:***@cache:6379/1" # guildex.toml line 2
    [index]
    [index.server]
    [model]
    [sessions]
    [optout]
    users = ["17", "18"] # command line
    [retention]
    [worker]
    batch_size = 32 # guildex.toml line 5
    [worker.concurrency]
    live = 4 # command line
    [worker.time_limits]
    [worker.time_limits.index_session]
    [worker.time_limits.delete]
    [worker.time_limits.backfill]
    [retry]
    [dispatcher]
    [search]
    [search.fusion]
    [log]
    "#);
}

#[test]
fn a_line_break_in_a_file_name_does_not_end_the_comment() {
    let origin = Origin::File { path: "a\nb = 1".into(), line: 1 };
    assert_eq!(origin.to_string(), r"a\nb = 1 line 1");
}

#[test]
fn the_example_lists_every_key_with_its_default() {
    // Settings are commented out without a space after the `#`; prose has one.
    let is_setting = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(" = ");
    let text: Vec<_> = EXAMPLE
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| is_setting(rest)).unwrap_or(line))
        .collect();
    let text = text.join("\n");
    assert_eq!(table_of(&load(&text, &[], &[]).unwrap().config), table_of(&Config::default()));
    assert_eq!(table_of(&load(EXAMPLE, &[], &[]).unwrap().config), table_of(&Config::default()));

    let mut example = Vec::new();
    names("", &text.parse().unwrap(), &mut example);
    let keys: Vec<_> = Keys::new([]).iter().map(|key| key.name.clone()).collect();
    assert_eq!(example, keys);
}

fn names(section: &str, table: &toml::Table, found: &mut Vec<String>) {
    for (name, value) in table {
        let name = keys::join(section, name);
        match value {
            Value::Table(inner) => names(&name, inner, found),
            _ => found.push(name),
        }
    }
}

#[test]
fn the_documentation_lists_every_key_with_its_default_and_range() {
    let rows: Vec<Vec<&str>> = DOCS
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    let keys = Keys::new([]);
    let documented: Vec<_> = rows.iter().map(|row| row[1]).collect();
    assert_eq!(documented, keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>());

    for (row, key) in rows.iter().zip(keys.iter()) {
        let [_, name, default, allowed, meaning, _] = row[..] else { panic!("{row:?} has not four cells") };
        assert!(!meaning.is_empty(), "{name}");
        match &key.default {
            Value::String(unset) if unset.is_empty() => assert_eq!(default, "not set", "{name}"),
            _ => {
                let loaded = load(&format!("{name} = {default}"), &[], &[]).unwrap();
                assert_eq!(table_of(&loaded.config), table_of(&Config::default()), "{name}");
                assert_ne!(*loaded.origin(name), Origin::Default, "{name} = {default} sets nothing");
            }
        }
        let of_key = allowed_values(name);
        if !of_key.is_empty() {
            assert_eq!(allowed, of_key.join("; "), "{name}");
        }
    }
}

/// Allowed values that the errors about a key name. Every problem is reported under a key.
fn allowed_values(key: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for value in ["", "x://y", "A b", "-1", "0", "0s", "999999999", "9999999h"] {
        // One of these has to be more than 0.
        let flags = [("search.fusion.dense", "0"), (key, value)];
        let Err(error) = load("", &[], &flags) else { continue };
        for line in error.lines().skip(1) {
            let (of, message) = line.trim().split_once(" (").unwrap();
            assert!(Keys::new([]).get(of).is_some(), "{line}");
            let allowed = message.split_once(" is not allowed; use ").map(|(_, allowed)| allowed.to_owned());
            texts.extend(allowed.filter(|allowed| of == key && !texts.contains(allowed)));
        }
    }
    texts
}

#[test]
fn checks_name_keys_and_every_number_and_duration_has_one() {
    use garde::Validate;

    Config::default().validate().unwrap();
    let keys = Keys::new([]);
    let is_duration =
        |value: &Value| value.as_str().is_some_and(|text| text.starts_with(|c: char| c.is_ascii_digit()));
    for key in keys
        .iter()
        .filter(|key| key.default.is_integer() || key.default.is_float() || is_duration(&key.default))
    {
        assert!(!allowed_values(&key.name).is_empty(), "{}", key.name);
    }
}

/// Halves of a password, separated by arbitrary characters. Showing either is a leak.
const HALVES: [&str; 2] = ["hunter2left", "hunter2right"];

fn leaks(text: &str) -> bool {
    HALVES.iter().any(|half| text.to_lowercase().contains(half))
}

proptest! {
    #[test]
    fn passwords_are_never_shown(
        // A number may be parsed as a port.
        front in prop::sample::select(vec![HALVES[0], "5432"]),
        middle in r##"[ -~é\t]{0,8}|[/@?#:&=%"'\\]{1,4}"##,
        place in 0..4,
        layer in 0..4,
    ) {
        let password = format!("{front}{middle}{}", HALVES[1]);
        let escaped: String = url::form_urlencoded::byte_serialize(password.as_bytes()).collect();
        let url = match place {
            0 => format!("postgres://me:{password}@db:5432/x"),
            1 => format!("postgres://me:{escaped}@db:5432/x"),
            2 => format!("postgres://db/x?sslmode=require&password={password}"),
            _ => password.clone(),
        };
        let (mut file, mut env, mut flags) = (String::new(), vec![], vec![]);
        match layer {
            0 => file = format!("[database]\nurl = {}", Value::from(url.as_str())),
            // Unescaped, it may or may not be TOML.
            1 => file = format!("[database]\nurl = \"{url}\""),
            2 => env = vec![("GUILDEX_DATABASE_URL", url.as_str())],
            _ => flags = vec![("database.url", url.as_str())],
        }
        match load(&file, &env, &flags) {
            Ok(loaded) => {
                let url = loaded.config.database_url().unwrap();
                let shown = format!("{loaded:?} {loaded:#?} {} {url} {url:?}", loaded.to_toml());
                prop_assert!(!leaks(&shown), "{}", shown);
            }
            Err(error) => prop_assert!(!leaks(&error), "{}", error),
        }
        // An error of another key must not show the value either.
        flags.push(("worker.batch_size", "0"));
        prop_assert!(!leaks(&error(&file, &env, &flags)));
    }

    #[test]
    fn an_escaped_password_reaches_the_client(password in "[ -~é]{1,12}") {
        let escaped: String = url::form_urlencoded::byte_serialize(password.as_bytes()).collect();
        let url = format!("redis://:{escaped}@cache:6379/0");
        let loaded = load("", &[("REDIS_URL", &url)], &[]).unwrap();
        prop_assert_eq!(loaded.config.redis_url().unwrap().expose(), url);
    }

    #[test]
    fn the_shown_configuration_can_be_loaded(
        batch in 1_usize..=1024,
        milliseconds in 0_u64..=10_000,
        users in prop::collection::vec(1_i64.., 0..4),
        dir in r##"[ -~é]{0,12}"##,
        preview: bool,
    ) {
        let mut config = Config::default();
        config.worker.process.batch_size = batch;
        config.worker.process.batch_wait = Duration::from_millis(milliseconds);
        config.optout.users = users.into_iter().map(|id| id.try_into().unwrap()).collect();
        config.model.dir = Some(PathBuf::from(&dir)).filter(|_| !dir.trim().is_empty());
        config.index.preview = preview;
        let shown = Loaded { config: config.clone(), origins: BTreeMap::new(), file: None }.to_toml();
        prop_assert_eq!(table_of(&load(&shown, &[], &[]).unwrap().config), table_of(&config));
    }

    #[test]
    fn any_text_for_any_key_is_accepted_or_rejected_by_name(text in "[ -~]{1,12}|-?[0-9]{1,20}", pick: prop::sample::Index) {
        let keys: Vec<_> = Keys::new([]).iter().map(|key| (key.name.clone(), key.variable())).collect();
        let (key, variable) = &keys[pick.index(keys.len())];
        if let Err(error) = load("", &[(variable, &text)], &[]) {
            // An error of two contradictory keys is reported for one and names both.
            prop_assert!(error.contains(key.as_str()), "{}", error);
        }
    }

    #[test]
    fn any_file_is_accepted_or_rejected(text in "([a-z_.\\[\\]=\"' 0-9#\n-]{0,60})") {
        let _ = load(&text, &[], &[]);
    }
}

proptest! {
    #[test]
    fn a_damaged_file_is_accepted_or_rejected_without_showing_passwords(
        bytes in guildex_test_support::damage::damaged(uncommented().into_bytes()),
    ) {
        let text = String::from_utf8_lossy(&bytes);
        if let Err(error) = load(&text, &[], &[]) {
            prop_assert!(!error.is_empty() && !leaks(&error), "{}", error);
        }
    }
}

/// The example with all settings that have a default uncommented, and a password.
fn uncommented() -> String {
    let url = format!("url = \"postgres://me:{}@db/x\"", HALVES[1]);
    let example = EXAMPLE.replacen("#url = \"\"", &url, 1);
    let setting = |line: &str| line.strip_prefix('#').unwrap_or(line).to_owned();
    let is_set =
        |line: &String| line.starts_with(|c: char| c == '[' || c.is_lowercase()) && !line.ends_with("\"\"");
    example.lines().map(setting).filter(is_set).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_undamaged_example_is_valid() {
    let loaded = load(&uncommented(), &[], &[]).unwrap();
    assert!(loaded.config.database_url().unwrap().expose().contains(HALVES[1]));
}
