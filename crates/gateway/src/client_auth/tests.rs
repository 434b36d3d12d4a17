use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName as Names, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};

use super::*;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = Names::new();
    params.distinguished_name.push(DnType::OrganizationName, "Acme, Inc.");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Authority {
    fn new(name: &str, by: Option<&Self>) -> Self {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let made = match by {
            Some(by) => params.signed_by(&key, &by.issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        Self { der: made.der().clone(), pem: made.pem(), issuer: Issuer::new(params, key) }
    }

    fn client(&self, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = named("client");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().der().clone()
    }

    fn auth(&self, mode: Mode) -> Arc<ClientAuth> {
        Arc::new(ClientAuth::new(&[&self.pem], "", mode, Some(1)).unwrap())
    }
}

fn guard(auth: Arc<ClientAuth>) -> Guard {
    Guard { auth: Some(auth), ..Guard::default() }
}

fn told(headers: &[(HeaderName, HeaderValue)], name: &HeaderName) -> String {
    let found = headers.iter().find(|(other, _)| other == name);
    found.map_or("", |(_, value)| value.to_str().unwrap()).to_owned()
}

#[test]
fn a_certificate_is_believed_for_its_authority_time_and_purpose() {
    let (ours, theirs) = (Authority::new("ours", None), Authority::new("theirs", None));
    let auth = ours.auth(Mode::Requests);
    assert_eq!(auth.judge(&[]), Proof::Nothing);
    assert_eq!(auth.judge(&[ours.client(|_| {})]), Proof::Good);
    assert_eq!(auth.judge(&[theirs.client(|_| {})]), Proof::Unknown);
    let old = ours.client(|params| params.not_after = rcgen::date_time_ymd(2000, 1, 1));
    assert!(matches!(auth.judge(&[old]), Proof::Bad(reason) if reason.contains("Expired")));
    let server = ours.client(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert!(matches!(auth.judge(&[server]), Proof::Bad(_)));
    assert!(matches!(auth.judge(&[CertificateDer::from(vec![0; 9])]), Proof::Bad(_)));
}

#[test]
fn a_chain_is_followed_so_far_and_no_further() {
    let root = Authority::new("root", None);
    let middle = Authority::new("middle", Some(&root));
    let below = Authority::new("below", Some(&middle));
    let short = [middle.client(|_| {}), middle.der.clone()];
    let long = [below.client(|_| {}), below.der.clone(), middle.der.clone()];
    let check = |depth: Option<usize>, chain: &[CertificateDer<'_>], good: bool| {
        let auth = ClientAuth::new(&[&root.pem], "", Mode::Requests, depth).unwrap();
        assert_eq!(auth.judge(chain) == Proof::Good, good, "{depth:?} {}", chain.len());
    };
    check(Some(0), &[root.client(|_| {})], true);
    check(Some(0), &short, false);
    check(Some(1), &short, true);
    check(Some(1), &long, false);
    check(Some(2), &long, true);
    check(None, &long, true);
}

#[test]
fn each_mode_lets_in_its_own() {
    let (ours, theirs) = (Authority::new("ours", None), Authority::new("theirs", None));
    let old = ours.client(|params| params.not_after = rcgen::date_time_ymd(2000, 1, 1));
    let shown = [vec![], vec![ours.client(|_| {})], vec![theirs.client(|_| {})], vec![old]];
    let check = |mode: Mode, wanted: [&str; 4]| {
        let auth = ours.auth(mode);
        let got = shown.each_ref().map(|chain| {
            match guard(auth.clone()).admit(Some(&Shown::new(&auth, Some(chain)))) {
                Ok(headers) => told(&headers, &VERIFY),
                Err(Refusal::Missing) => "missing".to_owned(),
                Err(Refusal::Bad(_)) => "bad".to_owned(),
                Err(other) => panic!("{other:?}"),
            }
        });
        let got = got.each_ref().map(|got| got.split(':').next().unwrap());
        assert_eq!(got, wanted, "{mode:?}");
    };
    check(Mode::Connection, ["missing", "SUCCESS", "bad", "bad"]);
    check(Mode::Requests, ["missing", "SUCCESS", "bad", "bad"]);
    check(Mode::Optional, ["NONE", "SUCCESS", "bad", "bad"]);
    check(Mode::AnyAuthority, ["NONE", "SUCCESS", "FAILED", "bad"]);
    check(Mode::Insecure, ["NONE", "SUCCESS", "FAILED", "FAILED"]);
}

#[test]
fn another_connection_s_proof_is_none() {
    let (ours, theirs) = (Authority::new("ours", None), Authority::new("theirs", None));
    let chain = [theirs.client(|_| {})];
    let shown = Shown::new(&theirs.auth(Mode::Requests), Some(&chain));
    assert_eq!(shown.proof, Proof::Good);
    for mode in [Mode::Requests, Mode::Optional, Mode::Insecure] {
        let guard = guard(ours.auth(mode));
        assert_eq!(guard.admit(Some(&shown)).unwrap_err(), Refusal::Connection, "{mode:?}");
        assert_eq!(guard.admit(None).unwrap_err(), Refusal::Connection, "{mode:?}");
    }
    // The same authority, asked for otherwise.
    assert_ne!(ours.auth(Mode::Optional).fingerprint, ours.auth(Mode::Requests).fingerprint);
}

#[test]
fn an_app_is_told_who_it_is_in_a_form_that_has_one_meaning() {
    let ours = Authority::new("ours", None);
    let auth = ours.auth(Mode::Requests);
    let chain = [ours.client(|params| {
        params.distinguished_name = Names::new();
        params.distinguished_name.push(DnType::CountryName, "DE");
        params.distinguished_name.push(DnType::OrganizationName, "x,CN=admin");
        params.distinguished_name.push(DnType::CommonName, "é\r\nX: y ");
    })];
    let shown = Shown::new(&auth, Some(&chain));
    let mut guard = guard(auth);
    let headers = guard.admit(Some(&shown)).unwrap();
    assert_eq!(told(&headers, &SUBJECT), "CN=???X: y\\ ,O=x\\,CN\\=admin,C=DE");
    assert_eq!(told(&headers, &ISSUER), "CN=ours,O=Acme\\, Inc.");
    assert_eq!(told(&headers, &CERTIFICATE), "");
    guard.pass = true;
    let passed = told(&guard.admit(Some(&shown)).unwrap(), &CERTIFICATE);
    let text = percent_encoding::percent_decode_str(&passed).decode_utf8().unwrap().into_owned();
    assert_eq!(CertificateDer::from_pem_slice(text.as_bytes()).unwrap(), chain[0]);
    guard.subject = Some(Regex::new("^CN=other").unwrap());
    assert_eq!(guard.admit(Some(&shown)).unwrap_err(), Refusal::Subject);
    guard.subject = Some(Regex::new("C=DE$").unwrap());
    assert!(guard.admit(Some(&shown)).is_ok());
}

#[test]
fn who_is_revoked_is_not_let_in() {
    use rcgen::{
        CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber, date_time_ymd,
    };
    let ours = Authority::new("ours", None);
    let with = |serial: u64| ours.client(|params| params.serial_number = Some(SerialNumber::from(serial)));
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(2060, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(7),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&ours.issuer).unwrap().pem().unwrap();
    let auth = ClientAuth::new(&[&ours.pem], &list, Mode::Requests, Some(1)).unwrap();
    assert_eq!(auth.judge(&[with(8)]), Proof::Good);
    assert!(matches!(auth.judge(&[with(7)]), Proof::Bad(reason) if reason.contains("Revoked")));
    assert!(ClientAuth::new(&[&ours.pem], "nonsense", Mode::Requests, None).is_none());
}

#[test]
fn what_is_no_authority_is_none() {
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for text in ["", "nonsense", broken] {
        assert!(ClientAuth::new(&[text], "", Mode::Requests, None).is_none(), "{text:?}");
    }
}
